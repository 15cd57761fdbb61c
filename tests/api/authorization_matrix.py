"""Who may use which route: the table that the routes are checked against, and docs/access.md is made from.

A route without a row here fails `test_api_authorization.py`, and so does a row without a route. After a change run
`.venv/bin/python tests/api/authorization_matrix.py`, which writes the table into the page.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "access.md"
BEGIN, END = "<!-- matrix: begin -->\n", "<!-- matrix: end -->"

ROLES = ("admin", "operator", "viewer", "auditor", "edge")
READERS = ("admin", "operator", "viewer", "auditor")
WRITERS = ("admin", "operator")
AUDITORS = ("admin", "auditor")
ADMINS = ("admin",)
NO_KEY = ("no key",)


@dataclass(frozen=True)
class Rule:
    """Which roles may, and what a key of some configurations may reach.

    own: in a path with a configuration only that one; elsewhere what belongs to its configurations, or to none.
    all: nothing; the route concerns every configuration.
    """

    roles: tuple[str, ...]
    reach: str = "own"


NATIVE = "/api/certorbit/v1"
OF_CERTIFICATE = f"{NATIVE}/configs/{{config}}/certificates/{{entry_id}}"
CONF = "{dialect}/conf/{config}"
CERTIFICATE = f"{CONF}/certificates/{{entry_id}}"
LOAD_BALANCERS = f"{CONF}/load-balancers"
GROUPS = f"{CONF}/server-groups"
VERSIONS = "{dialect}/conf/configs/{config}/versions"

# `{dialect}`: the same under /api/v4, /api/v4.0 and /api/v4.3.
TABLE: dict[str, Rule] = {
    "GET {dialect}/openapi.json": Rule(READERS),
    "GET {dialect}/conf/configs": Rule(READERS),
    "GET {dialect}/conf/configs/{config}": Rule(READERS),
    f"GET {VERSIONS}": Rule(READERS),
    f"GET {VERSIONS}/{{number}}": Rule(READERS),
    f"PUT {VERSIONS}/{{number}}/revert": Rule(WRITERS),
    f"GET {CONF}/certificates": Rule(ROLES),
    f"GET {CERTIFICATE}": Rule(ROLES),
    f"POST {CERTIFICATE}": Rule(WRITERS),
    f"PUT {CERTIFICATE}": Rule(WRITERS),
    f"DELETE {CERTIFICATE}": Rule(WRITERS),
    f"GET {CERTIFICATE}/links": Rule(READERS),
    f"GET {CERTIFICATE}/pem": Rule(ROLES),
    f"GET {CERTIFICATE}/pfx": Rule(ROLES),
    f"GET {GROUPS}": Rule(READERS),
    f"POST {GROUPS}": Rule(WRITERS),
    f"GET {GROUPS}/{{site_id}}": Rule(READERS),
    f"POST {GROUPS}/{{site_id}}": Rule(WRITERS),
    f"PUT {GROUPS}/{{site_id}}": Rule(WRITERS),
    f"DELETE {GROUPS}/{{site_id}}": Rule(WRITERS),
    f"GET {LOAD_BALANCERS}": Rule(READERS),
    f"PUT {LOAD_BALANCERS}/{{name}}/certificates/{{entry_id}}": Rule(WRITERS),
    f"DELETE {LOAD_BALANCERS}/{{name}}/certificates": Rule(WRITERS),
    f"GET {LOAD_BALANCERS}/regions": Rule(READERS),
    f"POST {LOAD_BALANCERS}/regions": Rule(WRITERS, "all"),
    "POST {dialect}/tools/certificates/extractpfx": Rule(READERS),
    "PUT {dialect}/tools/publish/{config}": Rule(WRITERS),
    f"GET {NATIVE}/operations": Rule(READERS),
    f"GET {NATIVE}/operations/{{operation_id}}": Rule(READERS),
    f"POST {NATIVE}/operations/{{operation_id}}/retry": Rule(WRITERS),
    f"POST {NATIVE}/operations/{{operation_id}}/cancel": Rule(WRITERS),
    f"GET {NATIVE}/deployments": Rule(READERS),
    f"GET {NATIVE}/deployments/{{operation_id}}": Rule(READERS),
    f"GET {OF_CERTIFICATE}/deployments": Rule(READERS),
    f"POST {OF_CERTIFICATE}/deployments": Rule(WRITERS),
    f"GET {OF_CERTIFICATE}/renewal": Rule(READERS),
    f"PATCH {OF_CERTIFICATE}/renewal": Rule(WRITERS),
    f"POST {OF_CERTIFICATE}/renew": Rule(WRITERS),
    f"POST {OF_CERTIFICATE}/revoke": Rule(WRITERS),
    f"GET {OF_CERTIFICATE}/revocation": Rule(READERS),
    f"GET {OF_CERTIFICATE}/versions": Rule(READERS),
    f"GET {OF_CERTIFICATE}/versions/{{before}}/compare/{{after}}": Rule(READERS),
    f"POST {OF_CERTIFICATE}/versions/{{version_id}}/rollback": Rule(WRITERS),
    f"GET {NATIVE}/renewals": Rule(READERS, "all"),
    f"GET {NATIVE}/targets": Rule(READERS),
    f"POST {NATIVE}/targets/{{target}}/check": Rule(WRITERS, "all"),
    f"GET {NATIVE}/issuers": Rule(READERS),
    f"GET {NATIVE}/api-keys": Rule(AUDITORS, "all"),
    f"POST {NATIVE}/api-keys": Rule(ADMINS, "all"),
    f"PATCH {NATIVE}/api-keys/{{key_id}}": Rule(ADMINS, "all"),
    f"POST {NATIVE}/api-keys/{{key_id}}/rotate": Rule(ADMINS, "all"),
    f"DELETE {NATIVE}/api-keys/{{key_id}}": Rule(ADMINS, "all"),
    f"GET {NATIVE}/sessions": Rule(AUDITORS, "all"),
    f"DELETE {NATIVE}/sessions": Rule(ADMINS, "all"),
    f"DELETE {NATIVE}/sessions/{{session_id}}": Rule(ADMINS, "all"),
    f"GET {NATIVE}/audit": Rule(AUDITORS, "all"),
    f"GET {NATIVE}/audit/export": Rule(AUDITORS, "all"),
    f"GET {NATIVE}/audit/head": Rule(AUDITORS, "all"),
    f"GET {NATIVE}/keyring": Rule(ADMINS, "all"),
    f"GET {NATIVE}/maintenance": Rule(READERS),
    f"POST {NATIVE}/maintenance": Rule(ADMINS, "all"),
    "GET /metrics": Rule(READERS, "all"),
    f"GET {NATIVE}/issuers/internal/root.pem": Rule(NO_KEY),
    "GET /crl/internal.crl": Rule(NO_KEY),
    "GET /.well-known/acme-challenge/{token}": Rule(NO_KEY),
    "GET /auth/me": Rule(ROLES),
    "POST /auth/logout": Rule(ROLES),
    "GET /auth/login": Rule(NO_KEY),
    "GET /auth/callback": Rule(NO_KEY),
    "GET /healthz": Rule(NO_KEY),
    "GET /readyz": Rule(NO_KEY),
    "GET /openapi.json": Rule(NO_KEY),
    "GET /docs": Rule(NO_KEY),
}


def render() -> str:
    """Return the table as docs/access.md shows it."""
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield f"| route | {' | '.join(ROLES)} | a key of some configurations |\n"
    yield f"|---|{'---|' * (len(ROLES) + 1)}\n"
    for name, rule in TABLE.items():
        shown = name.replace("{dialect}", "/api/‹dialect›")
        if rule.roles == NO_KEY:
            yield f"| `{shown}` | {'| ' * len(ROLES)}| no key is needed |\n"
            continue
        marks = " | ".join("yes" if role in rule.roles else "" for role in ROLES)
        yield f"| `{shown}` | {marks} | {'no' if rule.reach == 'all' else 'its own'} |\n"


def main() -> None:
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{render()}{END}{after}")


if __name__ == "__main__":
    main()
