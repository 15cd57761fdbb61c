"""Questions to the DNS, asked of a real BIND."""

from collections.abc import Iterator

import pytest

from certorbit.errors import Unreachable
from certorbit.net.resolve import MOST_HOPS, CAARecord, Resolution, read_txt
from e2e.bind import ADDRESS, Bind, running_bind

ZONE = "example.com"
RECORDS = [
    "alias IN CNAME alias2",
    "alias2 IN CNAME target.child.example.com.",
    "circle IN CNAME circle2",
    "circle2 IN CNAME circle",
    "moved IN DNAME elsewhere.test.",
    *(f"hop{number} IN CNAME hop{number + 1}" for number in range(MOST_HOPS + 2)),
    'long IN TXT ( "' + "a" * 200 + '" "' + "b" * 200 + '" )',
    'guarded IN CAA 0 issue "letsencrypt.org; accounturi=https://ca.example/acct/7"',
    'guarded IN CAA 128 ISSUEWILD ";"',
    'guarded2 IN CAA 0 issue "other.example"',
    "pointed IN CNAME guarded2",
    *(f'many IN TXT "{number:02}-{"x" * 100}"' for number in range(40)),
]


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with running_bind(
        tmp_path_factory.mktemp("bind"),
        {ZONE: RECORDS, "child.example.com": []},
    ) as running:
        yield running


@pytest.fixture
def resolution(bind: Bind) -> Resolution:
    return Resolution(resolvers=[bind.server], authority_port=bind.port)


@pytest.mark.parametrize(
    ("name", "end"),
    [
        pytest.param("nothing.example.com", "nothing.example.com", id="name-that-does-not-exist"),
        pytest.param("ns1.example.com", "ns1.example.com", id="name-of-another-type"),
        pytest.param("alias.example.com", "target.child.example.com", id="chain-into-another-zone"),
        pytest.param("x.moved.example.com", "x.elsewhere.test", id="dname"),
    ],
)
async def test_cnames_are_followed_to_their_end(bind: Bind, name: str, end: str) -> None:
    if end.endswith(".test"):
        with pytest.raises(Unreachable, match="REFUSED"):  # the hop was taken: that zone isn't BIND's
            await Resolution(resolvers=[bind.server]).follow(name)
        return
    assert await Resolution(resolvers=[bind.server]).follow(name) == end


@pytest.mark.parametrize("name", ["circle.example.com", "hop0.example.com"])
async def test_circles_and_endless_chains_are_refused(resolution: Resolution, name: str) -> None:
    with pytest.raises(Unreachable, match=f"{name}: its CNAMEs go in a circle or through more than 10 names"):
        await resolution.follow(name)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("_acme-challenge.example.com", "example.com"),
        ("a.b.c.example.com", "example.com"),
        ("_acme-challenge.child.example.com", "child.example.com"),
        ("child.example.com", "child.example.com"),
    ],
)
async def test_the_zone_of_a_name_is_found_whether_it_exists_or_not(
    resolution: Resolution, name: str, zone: str
) -> None:
    assert await resolution.find_zone(name) == zone


async def test_all_name_servers_are_found_with_their_addresses(resolution: Resolution, bind: Bind) -> None:
    servers = await resolution.find_name_servers(ZONE)
    assert [(server.name, server.addresses) for server in servers] == [("ns1.example.com", (("127.0.0.1", bind.port),))]


async def test_a_zone_that_has_none_is_told(resolution: Resolution) -> None:
    with pytest.raises(Unreachable, match=r"nothing\.example\.com: it has no name servers"):
        await resolution.find_name_servers("nothing.example.com")


async def test_values_are_read_in_one_piece_and_over_tcp_when_there_are_many(bind: Bind) -> None:
    server = (ADDRESS, bind.port)
    assert await read_txt("long.example.com", server=server) == {"a" * 200 + "b" * 200}
    assert len(await read_txt("many.example.com", server=server)) == 40
    assert await read_txt("nothing.example.com", server=server) == frozenset()
    # What is at the end of a CNAME is not at the name itself.
    assert await read_txt("alias.example.com", server=server) == frozenset()


async def test_silence_and_refusal_are_told(bind: Bind) -> None:
    with pytest.raises(Unreachable, match=r"answers REFUSED for www\.other\.test"):
        await read_txt("www.other.test", server=(ADDRESS, bind.port))
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1 doesn't answer"):
        await read_txt("www.example.com", server=("127.0.0.1", 9))
    with pytest.raises(Unreachable, match=r"www\.other\.test: its zone can't be found"):
        await Resolution(resolvers=[bind.server]).find_zone("www.other.test")


async def test_caa_records_are_read_as_they_stand(resolution: Resolution) -> None:
    found = await resolution.find_caa("guarded.example.com")
    assert sorted(found, key=lambda record: record.tag) == [
        CAARecord(
            "guarded.example.com",
            is_critical=False,
            tag="issue",
            value="letsencrypt.org; accounturi=https://ca.example/acct/7",
        ),
        CAARecord("guarded.example.com", is_critical=True, tag="issuewild", value=";"),
    ]


@pytest.mark.parametrize("name", ["nothing.example.com", "ns1.example.com", "alias.example.com"])
async def test_a_name_without_caa_records_has_none(resolution: Resolution, name: str) -> None:
    assert list(await resolution.find_caa(name)) == []


async def test_caa_records_stand_where_cnames_lead(resolution: Resolution) -> None:
    found = await resolution.find_caa("pointed.example.com")
    assert list(found) == [CAARecord("guarded2.example.com", is_critical=False, tag="issue", value="other.example")]


async def test_a_resolver_that_refuses_is_no_answer_about_caa(resolution: Resolution) -> None:
    with pytest.raises(Unreachable, match="no answer for CAA"):
        await resolution.find_caa("elsewhere.test")
