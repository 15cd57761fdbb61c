"""Client certificates at nginx: the directives for `server` blocks, and whether the blocks of a listener have them.

nginx checks clients by `server` block, and `ssl_verify_client` takes no variable. So all blocks of a listener include
one file of ours, and check alike.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from certorbit.model.client_policy import ClientPolicy
from certorbit.model.site import ClientCertificateMode
from certorbit.targets.holdings import ClientCheck
from certorbit.targets.nginx.configuration import Directive

# CAs between client and root. nginx's own default is 1; 100 is OpenSSL's, so a bundle means the same as at other
# proxies. What a client can make us follow is bounded by OpenSSL's limit of 100 KiB for the certificates it shows.
_DEPTH: Final = 100
_CERTIFICATE: Final = frozenset({"ssl_certificate", "ssl_certificate_key"})
_MAPS: Final = frozenset({"map", "split_clients"})


@dataclass(frozen=True, slots=True)
class Parts:
    """What nginx's configuration has to have of a listener.

    variable: that its `server` blocks name; "": they include `index`. clients: the file that they all have to include.
    """

    variable: str
    index: str
    clients: str


def client_lines(check: ClientCheck | None, *, home: str) -> list[str]:
    """Return the directives for a `server` block. home: the folder of the CA and CRL files."""
    if check is None:
        return []
    authorities = f"{home}/{authorities_name(check)}"
    lines = [
        f"ssl_verify_client {check.mode.value};",
        f"ssl_verify_depth {_DEPTH};",
        f'ssl_client_certificate "{authorities}";',
        # One that the `http` block has would be inherited, and nginx takes clients of its CAs too.
        f'ssl_trusted_certificate "{authorities}";',
    ]
    return [*lines, f'ssl_crl "{home}/{lists_name(check)}";'] if check.has_lists else lines


def guess_check(text: str) -> ClientCheck | None:
    """Return what directives like ours say, None if there are none."""
    mode = re.search(r"^ssl_verify_client (on|optional);$", text, re.MULTILINE)
    digest = re.search(r'/([0-9a-f]{64})\.ca";$', text, re.MULTILINE)
    if mode is None or digest is None:
        return None
    return ClientCheck(ClientCertificateMode(mode[1]), digest[1], has_lists="\nssl_crl " in text)


def authorities_name(check: ClientCheck) -> str:
    return f"{check.digest}.ca"


def lists_name(check: ClientCheck) -> str:
    return f"{check.digest}.crl"


def file_names(check: ClientCheck | None) -> set[str]:
    """Return the names of the files that the directives name."""
    if check is None:
        return set()
    return {authorities_name(check), *([lists_name(check)] if check.has_lists else [])}


def contents_of(policy: ClientPolicy) -> dict[str, bytes]:
    """Return the policy's files by name."""
    check = ClientCheck.of(policy)
    texts = {authorities_name(check): policy.ca_pem, lists_name(check): policy.crl_pem}
    return {name: texts[name].encode() for name in file_names(check)}


def find_gaps(configuration: Sequence[Directive], parts: Parts) -> list[str]:
    """Return what keeps nginx from checking all clients of a listener, a sentence each; none if it does.

    Two checks in one block are nginx's own complaint ("directive is duplicate").
    """
    found, gaps = False, []
    for outer in configuration:
        if outer.name == "server" or not outer.block:
            continue
        servers = [inner for inner in outer.block if inner.name == "server" and inner.block is not None]
        mine = list(_find_mine(outer.block, servers, parts))
        found = found or bool(mine)
        gaps += [
            f"the `server` block at {server.place} doesn't have `include {parts.clients};`. Add it"
            for server in mine
            if not _includes(server, parts.clients)
        ]
        gaps += [
            f"{inner.place} has ssl_verify_client for all `server` blocks, which ours would replace. Move it into those"
            " that it is for"
            for inner in outer.block
            if mine and inner.name == "ssl_verify_client" and inner.words[1:] != ("off",)
        ]
    if not found:
        names = f"names ${parts.variable}" if parts.variable else f"includes {parts.index}"
        gaps.append(f"no `server` block {names}")
    return gaps


def _find_mine(block: Sequence[Directive], servers: Sequence[Directive], parts: Parts) -> Iterable[Directive]:
    """Return the listener's `server` blocks, also those that have its certificates from the block around them."""
    if not parts.variable:
        around = any(inner.words == ("include", parts.index) for inner in block)
        return servers if around else [server for server in servers if _includes(server, parts.index)]
    variables = _find_variables(block, parts.variable)
    around = any(_serves(inner, variables) for inner in block)
    return [
        server
        for server in servers
        if any(_serves(inner, variables) for inner in server.block or ())
        or (around and not any(inner.name in _CERTIFICATE for inner in server.block or ()))
    ]


def _find_variables(block: Sequence[Directive], variable: str) -> set[str]:
    """Return the variable with all that maps of the operator's make out of it."""
    known: set[str] = {variable}
    maps = [inner for inner in block if inner.name in _MAPS and inner.block is not None]
    for _ in maps:  # one more may be found in each round
        for one in maps:
            used = [one.words[1:-1], *(line.words for line in one.block or ())]
            if any(_names(word, known) for words in used for word in words):
                known.add(one.words[-1].lstrip("$").lower())
    return known


def _serves(directive: Directive, variables: set[str]) -> bool:
    return directive.name in _CERTIFICATE and any(_names(word, variables) for word in directive.words[1:])


def _names(word: str, variables: set[str]) -> bool:
    return not variables.isdisjoint(re.findall(r"\$\{?([a-z0-9_]+)", word.lower()))


def _includes(server: Directive, file: str) -> bool:
    return any(inner.words == ("include", file) for inner in server.block or ())
