"""What is read out of `nginx -T`, and which `server` blocks of a listener would let clients in unchecked."""

import pytest

from certorbit.targets.commands import Outcome
from certorbit.targets.nginx.clients import Parts, find_gaps
from certorbit.targets.nginx.configuration import Directive, read_dump

CLIENTS = "/etc/nginx/certorbit/web-443.clients"
PARTS = Parts(variable="certorbit_web_443", index="/etc/nginx/certorbit/web-443.conf", clients=CLIENTS)
SINGLE = Parts(variable="", index="/etc/nginx/certorbit/web-443.server", clients=CLIENTS)
SERVED = "ssl_certificate $certorbit_web_443; ssl_certificate_key $certorbit_web_443;"
CHECKED = f"{SERVED} include {CLIENTS};"
FILES = {CLIENTS: "# nothing\n", PARTS.index: 'map $ssl_server_name $certorbit_web_443 { default "/x.pem"; }\n'}


def dump(files: dict[str, str], *, is_cut: bool = False) -> tuple[Directive, ...]:
    shown = [f"# configuration file {name}:\n{text}\n" for name, text in files.items()]
    return read_dump(Outcome(0, "nginx: test is successful\n" + "".join(shown), is_cut=is_cut))


def gaps_of(http: str, more: dict[str, str], parts: Parts = PARTS) -> list[str]:
    files = {"/etc/nginx/nginx.conf": f"events {{ }}\nhttp {{ {http} }}\n", **FILES}
    return find_gaps(dump({**files, **{f"/etc/nginx/{name}": text for name, text in more.items()}}), parts)


@pytest.mark.parametrize(
    "http",
    [
        f"server {{ {CHECKED} }}",
        f"server {{ {CHECKED} }} server {{ listen 80; return 301 https://$host$request_uri; }}",
        f"server {{ {CHECKED} }} server {{ ssl_certificate /mine.pem; ssl_certificate_key /mine.key; }}",
        f"server {{ {CHECKED} }} server {{ ssl_certificate $certorbit_web_4430; }}",
        f"include certorbit/*.conf; upstream u {{ server 127.0.0.1:80; }} server {{ {CHECKED} }}",
        f"{SERVED} server {{ include {CLIENTS}; }} server {{ ssl_certificate /mine.pem; }}",
        f"ssl_verify_client off; server {{ {CHECKED} }}",
        f"server {{ {SERVED} include certorbit/web-443.c*; }}",
        f"server {{ {CHECKED} location / {{ content_by_lua_block {{ if x then y({{}}) end -- it's }} }} }}",
        f'server {{ {CHECKED} if ($x ~ "a{{2}}\\"}}") {{ return 200 \'a;b}}\'; }} }}',
    ],
)
def test_nothing_is_missing(http: str) -> None:
    assert gaps_of(http, {}) == []


@pytest.mark.parametrize(
    ("http", "gap"),
    [
        ("server { listen 443; }", "no `server` block names"),
        (f"server {{ {CHECKED} }} server {{ {SERVED} }}", "doesn't have"),
        (f"server {{ {SERVED} }}", "doesn't have"),
        (f"server {{ {SERVED} #include {CLIENTS};\n }}", "doesn't have"),
        (f"server {{ {SERVED} location / {{ include {CLIENTS}; }} }}", "doesn't have"),
        (f"server {{ {SERVED} include certorbit/*.conf; }}", "doesn't have"),
        (f"include {CLIENTS}; server {{ {SERVED} }}", "doesn't have"),
        ("server { ssl_certificate ${Certorbit_Web_443}; }", "doesn't have"),
        ('server { ssl_certificate "data:$certorbit_web_443"; }', "doesn't have"),
        (f"{SERVED} server {{ listen 443 ssl; }}", "doesn't have"),
        (
            "map $host $a { default $certorbit_web_443; } map $a $b { default $a; } server { ssl_certificate $b; }",
            "doesn't",
        ),
        ("map $certorbit_web_443 $a { default x; } server { ssl_certificate $a; }", "doesn't have"),
        (f"server {{ {CHECKED} }} include hidden.conf;", r"/etc/nginx/hidden.conf:2 doesn't have"),
        (f"ssl_verify_client optional; server {{ {CHECKED} }}", "nginx.conf:2 has ssl_verify_client"),
    ],
)
def test_what_is_missing_is_found(http: str, gap: str) -> None:
    found = gaps_of(http, {"hidden.conf": f"\nserver {{ {SERVED} }}"})
    assert len(found) == 1
    assert gap in found[0]


@pytest.mark.parametrize(
    ("http", "count"),
    [
        (f"server {{ include {SINGLE.index}; }}", 0),
        (f"server {{ include {SINGLE.index}; }} server {{ ssl_certificate /mine.pem; }}", 0),
        (f"include {SINGLE.index}; server {{ listen 443; }}", 1),
        ("server { listen 443; }", 1),
    ],
)
def test_with_one_certificate_the_include_brings_the_other_along(http: str, count: int) -> None:
    assert len(gaps_of(http, {"certorbit/web-443.server": f'include "{CLIENTS}";'}, SINGLE)) == count


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "nothing is shown"),
        ({"/a": "http { server { }"}, "/a ends too early"),
        ({"/a": "listen 80"}, "/a ends too early"),
        ({"/a": "\n}"}, "/a:2 has a } too many"),
        ({"/a": "http { listen 80 }"}, "too many, or a semicolon too few"),
        ({"/a": "a 'b;\n"}, "/a:1 can't be understood"),
        ({"/n/a": "include b;"}, "/n/a:1 includes /n/b, which is not shown"),
        ({"/n/a": "include a;"}, "without end"),
        ({"/a": "x_by_lua_block { { }"}, "doesn't end"),
    ],
)
def test_what_is_not_understood_is_told_and_never_passed_over(files: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dump(files)


def test_a_dump_that_is_cut_or_shows_a_file_twice_is_not_taken() -> None:
    with pytest.raises(ValueError, match="too long"):
        dump({"/a": ""}, is_cut=True)
    with pytest.raises(ValueError, match="shown twice"):
        dump({"/a": "# configuration file /a:\n"})


def test_patterns_find_what_the_shell_would() -> None:
    files = {"/n/nginx.conf": "include d/*.conf; include /n/[ab]/?;", "/n/d/x.conf": "x;", "/n/d/.y.conf": "y;"}
    found = dump({**files, "/n/d/e/z.conf": "z;", "/n/a/1": "one;", "/n/c/2": "two;"})
    assert [line.name for line in found if line.name != "include"] == ["x", "one"]
