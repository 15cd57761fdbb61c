"""The page at `/docs`: the OpenAPI document as plain HTML, without scripts and without anything from elsewhere."""

import base64
from hashlib import sha256
from html import escape
from typing import Any

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}
code,.path{font-family:ui-monospace,monospace}h2{margin-top:2.5rem;border-bottom:1px solid #ccd3dc}
details{border:1px solid #ccd3dc;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}summary{cursor:pointer}
.method{display:inline-block;min-width:4.5rem;font-weight:700}table{border-collapse:collapse;margin:.5rem 0}
td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#12161c}h2,details{border-color:#39424e}a{color:#8ab4f8}}
"""
_STYLE_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'"


def render_docs(document: dict[str, Any]) -> tuple[str, str]:
    """Return the page and the content security policy that it needs."""
    groups: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["Other"])[0]
            groups.setdefault(tag, []).append(_operation(method, path, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(items)}" for tag, items in groups.items())
    title = escape(document["info"]["title"])
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title} API {escape(document['info']['version'])}</h1>"
        f"<p>{_prose(document['info']['description'])}</p>"
        "<p>Send <code>Authorization: Basic &lt;api key&gt;</code> (the key as it stands) or"
        " <code>Authorization: Bearer &lt;api key&gt;</code>."
        ' For machines: <a href="/openapi.json">openapi.json</a>.</p>'
        f"{sections}</body></html>"
    )
    return page, _POLICY


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}</td>"
        f"<td>{_prose(item.get('description', ''))}</td></tr>"
        for item in operation.get("parameters", [])
    )
    body = _body_row(operation)
    answers = "".join(
        f"<tr><td><code>{escape(status)}</code></td><td>{_prose(answer['description'])}</td></tr>"
        for status, answer in sorted(operation["responses"].items())
    )
    access = "" if operation.get("security") else " (no key needed)"
    return (
        f'<details><summary><span class="method">{escape(method.upper())}</span>'
        f'<span class="path">{escape(path)}</span>{access}</summary><p>{_prose(operation.get("description", ""))}</p>'
        f"<table>{parameters}{body}</table><table>{answers}</table></details>"
    )


def _body_row(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return ""
    schema = content["schema"]
    reference = schema.get("$ref") or schema["allOf"][0]["$ref"]
    return f"<tr><td><code>{escape(reference.rsplit('/', 1)[1])}</code></td><td>body</td><td>JSON</td></tr>"


def _prose(text: str) -> str:
    """Return the text as HTML, with `code` between backticks."""
    parts = escape(text).split("`")
    return "".join(part if place % 2 == 0 else f"<code>{part}</code>" for place, part in enumerate(parts))
