"""CAA records before an order: the climb, what they allow, and that only what is certain stops an order."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from certorbit.acme.caa import MOST_AT_ONCE, CAALookup, check_caa
from certorbit.acme.issuer import ACMEIssuer
from certorbit.errors import CAAForbids, RetryRule, Unreachable
from certorbit.model.identifiers import normalise_identifiers
from certorbit.model.operation import problem_from
from certorbit.net.resolve import CAARecord, Resolution
from certorbit.settings import IssuerSettings
from e2e.bind import running_bind
from e2e.service import free_port
from fakes.clock import FakeChance, FakeClock
from fakes.fake_ca import FakeCA
from fakes.memory_keyring import MemoryKeyring
from fakes.memory_store import MemoryStore

OURS = "letsencrypt.org"
AWAY = "away"  # in a zone: the resolvers don't answer for this domain
Zone = Mapping[str, Sequence[str] | str]


class MemoryCAA:
    """A resolver in memory. zone: by domain its records as `flags tag value`, AWAY, or `-> target` for a CNAME."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.asked: list[str] = []

    async def find_caa(self, name: str) -> Sequence[CAARecord]:
        self.asked.append(name)
        owner, found = name, self.zone.get(name, ())
        while isinstance(found, str) and found.startswith("-> "):
            owner = found.removeprefix("-> ")
            found = self.zone.get(owner, ())
        if isinstance(found, str):
            raise Unreachable(f"DNS: {name}: SERVFAIL.", subject=name, phase="resolve")
        parts = [record.split(" ", 2) for record in found]
        return [CAARecord(owner, bool(int(flags) & 0x80), tag.lower(), value) for flags, tag, value in parts]


class SlowCAA:
    """A resolver that answers at once for some domains, and never for others. most: how many asked at once."""

    def __init__(self, quick: Zone) -> None:
        self.quick = MemoryCAA(quick)
        self.waiting = 0
        self.most = 0

    async def find_caa(self, name: str) -> Sequence[CAARecord]:
        if name in self.quick.zone:
            return await self.quick.find_caa(name)
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        raise AssertionError("it never answers")


async def look(lookup: CAALookup, *names: str, ca_names: Sequence[str] = (OURS,), seconds: float = 60) -> None:
    await check_caa(normalise_identifiers(names), ca="le", ca_names=ca_names, lookup=lookup, limit_seconds=seconds)


WWW = "www.shop.example.com"
ALLOWED: dict[str, tuple[str, Zone]] = {
    "no records anywhere": (WWW, {}),
    "our CA at the name": (WWW, {WWW: [f"0 issue {OURS}"]}),
    "our CA at the parent": (WWW, {"shop.example.com": [f"0 issue {OURS}"]}),
    "our CA at the top": (WWW, {"com": [f"0 issue {OURS}"]}),
    "the closest record counts, not the one above": (WWW, {WWW: [f"0 issue {OURS}"], "example.com": ["0 issue ;"]}),
    "one of several": (WWW, {"example.com": ["0 issue other.example", f"0 issue {OURS}"]}),
    "letters of any case": (WWW, {"example.com": ["0 ISSUE LetsEncrypt.ORG"]}),
    "spaces around the domain": (WWW, {"example.com": [f"0 issue   {OURS} ; x=y"]}),
    "an account is the CA's affair": (WWW, {"example.com": [f"0 issue {OURS}; accounturi=https://ca.example/acct/7"]}),
    "a method is the CA's affair": (WWW, {"example.com": [f"0 issue {OURS}; validationmethods=dns-01"]}),
    "reports only": (WWW, {"example.com": ["0 iodef mailto:ca@example.com"]}),
    "a record set without issue ends the climb": (
        WWW,
        {"shop.example.com": ["0 iodef mailto:ca@example.com"], "example.com": ["0 issue ;"]},
    ),
    "issuewild is not for plain names": (WWW, {"example.com": ["0 issuewild ;"]}),
    "an unknown property that isn't critical": (WWW, {"example.com": ["0 policy x", f"0 issue {OURS}"]}),
    "a critical property that is known": (WWW, {"example.com": [f"128 issue {OURS}"]}),
    "another flag isn't the critical one": (WWW, {"example.com": ["1 policy x"]}),
    "a wildcard by issue": (f"*.{WWW}", {WWW: [f"0 issue {OURS}"]}),
    "a wildcard by issuewild": (f"*.{WWW}", {WWW: ["0 issue ;", f"0 issuewild {OURS}"]}),
    "a CNAME's target": (
        WWW,
        {WWW: "-> cdn.example.net", "cdn.example.net": [f"0 issue {OURS}"], "com": ["0 issue ;"]},
    ),
    "the target's parents are not asked": (WWW, {WWW: "-> cdn.example.net", "example.net": ["0 issue ;"]}),
    "an address has no CAA": ("192.0.2.7", {"7": ["0 issue ;"]}),
    "nobody answers": (WWW, {WWW: AWAY, "example.com": ["0 issue ;"]}),
    "nobody answers further up": (WWW, {"shop.example.com": AWAY, "example.com": ["0 issue ;"]}),
}
FORBIDDEN: dict[str, tuple[str, Zone, str]] = {
    "another CA": (
        WWW,
        {"example.com": ["0 issue sectigo.com"]},
        f'(issue) at example.com allow sectigo.com, not {OURS}; add the record example.com. CAA 0 issue "{OURS}"',
    ),
    "nobody": (WWW, {"example.com": ["0 issue ;"]}, f"at example.com allow no CA, not {OURS}"),
    "an empty value": (WWW, {"example.com": ["0 issue "]}, "allow no CA"),
    "parameters alone": (WWW, {"example.com": ["0 issue ; accounturi=x"]}, "RFC 8657"),
    "the closest record counts": (
        WWW,
        {"shop.example.com": ["0 issue sectigo.com"], "example.com": [f"0 issue {OURS}"]},
        "at shop.example.com allow sectigo.com",
    ),
    "a subdomain of the CA's name": (WWW, {WWW: [f"0 issue x.{OURS}"]}, f"allow x.{OURS}, not {OURS}"),
    "many others": (WWW, {"com": [f"0 issue ca{n}.example" for n in range(5)]}, "ca2.example and 2 more, not"),
    "issuewild alone doesn't help a plain name": (
        WWW,
        {WWW: ["0 issue ;", f"0 issuewild {OURS}"]},
        f"(issue) at {WWW} allow no CA",
    ),
    "a wildcard by issuewild": (
        f"*.{WWW}",
        {"example.com": [f"0 issue {OURS}", "0 issuewild ;"]},
        f'add the record example.com. CAA 0 issuewild "{OURS}"',
    ),
    "a wildcard by issue": (f"*.{WWW}", {"example.com": ["0 issue sectigo.com"]}, "(issue) at example.com"),
    "a critical unknown property": (
        WWW,
        {"example.com": ["128 policy x", f"0 issue {OURS}"]},
        "at example.com have the critical property policy",
    ),
    "a CNAME's target": (
        WWW,
        {WWW: "-> cdn.example.net", "cdn.example.net": ["0 issue ;"], "example.com": [f"0 issue {OURS}"]},
        "(issue) at cdn.example.net allow no CA",
    ),
    "the climb goes on at the name's own parent": (
        WWW,
        {WWW: "-> cdn.example.net", "example.com": ["0 issue ;"]},
        "at example.com allow no CA",
    ),
    "text of somebody else": (WWW, {"example.com": ["0 issue a\n\x1b[31mb"]}, "allow a??[31mb, not"),
}


@pytest.mark.parametrize(("name", "zone"), ALLOWED.values(), ids=ALLOWED)
async def test_what_is_allowed_or_unknown_is_ordered(name: str, zone: Zone) -> None:
    await look(MemoryCAA(zone), name)


@pytest.mark.parametrize(("name", "zone", "says"), FORBIDDEN.values(), ids=FORBIDDEN)
async def test_what_is_forbidden_is_refused_with_the_record(name: str, zone: Zone, says: str) -> None:
    with pytest.raises(CAAForbids) as caught:
        await look(MemoryCAA(zone), name)
    assert caught.value.message.startswith(
        f"CAA records forbid the issuer 'le' to issue, so it was not asked: {name}: "
    )
    assert says in caught.value.message
    assert list(caught.value.subproblems) == [name]


async def test_the_refusal_lets_another_issuer_try() -> None:
    with pytest.raises(CAAForbids) as caught:
        await look(MemoryCAA({"example.com": ["0 issue ;"]}), WWW)
    problem = problem_from(caught.value)
    assert (problem.type, problem.retry) == ("urn:ietf:params:acme:error:caa", RetryRule.NEVER)
    assert (problem.blames_issuer, problem.keeps_order) == (True, False)


async def test_any_of_the_cas_names_will_do() -> None:
    zone = {"example.com": ["0 issue usertrust.com"]}
    await look(MemoryCAA(zone), WWW, ca_names=("sectigo.com", "UserTrust.com"))
    with pytest.raises(CAAForbids, match=r'not sectigo\.com or trust\.example; add .* "sectigo.com"'):
        await look(MemoryCAA(zone), WWW, ca_names=("sectigo.com", "trust.example"))


async def test_only_the_names_that_are_forbidden_are_named() -> None:
    zone: Zone = {"a.example.com": ["0 issue ;"], "b.example.com": AWAY, "example.com": [f"0 issue {OURS}"]}
    with pytest.raises(CAAForbids) as caught:
        await look(MemoryCAA(zone), "a.example.com", "b.example.com", "c.example.com", "*.a.example.com")
    assert list(caught.value.subproblems) == ["*.a.example.com", "a.example.com"]


async def test_each_domain_is_asked_once_per_order() -> None:
    lookup = MemoryCAA({})
    await look(lookup, "a.example.com", "b.example.com", "*.a.example.com", "example.com")
    assert sorted(lookup.asked) == ["a.example.com", "b.example.com", "com", "example.com"]
    await look(lookup, "example.com")
    assert lookup.asked.count("example.com") == 2, "the next order asks anew"


async def test_nobody_is_asked_for_a_ca_without_names() -> None:
    lookup = MemoryCAA({"example.com": ["0 issue ;"]})
    await look(lookup, WWW, ca_names=())
    assert lookup.asked == []


async def test_what_is_late_is_left_to_the_ca() -> None:
    lookup = SlowCAA({})
    await look(lookup, *(f"n{number}.example.com" for number in range(100)), seconds=0.05)
    assert lookup.most == MOST_AT_ONCE
    assert lookup.waiting == 0, "nothing goes on behind our back"


async def test_what_is_known_in_time_counts_though_others_are_late() -> None:
    with pytest.raises(CAAForbids, match="quick"):
        await look(SlowCAA({"quick.example.com": ["0 issue ;"]}), "slow.example.com", "quick.example.com", seconds=0.05)


# --- a real DNS --------------------------------------------------------------


async def test_a_real_name_server_is_believed(tmp_path: Path) -> None:
    records = ["www IN CNAME web", 'web IN CAA 0 issue "sectigo.com"', f'shop IN CAA 0 issue "{OURS}"']
    with running_bind(tmp_path / "bind", {"example.com": records}) as bind:
        lookup = Resolution(resolvers=[bind.server])
        await look(lookup, "shop.example.com", "*.shop.example.com")
        await look(lookup, "other.example.com")  # BIND refuses to speak of com: nobody knows
        with pytest.raises(CAAForbids, match=r"www\.example\.com: .* at web\.example\.com allow sectigo\.com"):
            await look(lookup, "shop.example.com", "www.example.com")


async def test_a_dns_that_is_down_stops_nothing() -> None:
    await look(Resolution(resolvers=[f"127.0.0.1:{free_port()}"]), WWW, seconds=0.3)


# --- the issuer --------------------------------------------------------------


def make_issuer(directory: str, caa: MemoryCAA | None) -> ACMEIssuer:
    return ACMEIssuer(
        settings=IssuerSettings(name="le", directory=directory),
        store=MemoryStore(),
        keyring=MemoryKeyring(),
        solvers=[],
        caa=caa,
        clock=FakeClock(auto_advance=True),
        chance=FakeChance(),
    )


async def test_the_issuer_goes_by_the_names_in_its_directory(ca: FakeCA) -> None:
    ca.meta = {"caaIdentities": ["CA.example", 7, "other.example"]}
    issuer = make_issuer(
        ca.directory_url, MemoryCAA({"example.com": ["0 issue ;"], "example.net": ["0 issue ca.example"]})
    )
    try:
        await issuer.check_names(normalise_identifiers(["www.example.net"]))
        with pytest.raises(CAAForbids, match=r"allow no CA, not ca\.example or other\.example"):
            await issuer.check_names(normalise_identifiers(["www.example.com"]))
    finally:
        await issuer.close()


async def test_without_the_setting_the_ca_is_not_asked_either() -> None:
    issuer = make_issuer("http://127.0.0.1:1/directory", None)
    await issuer.check_names(normalise_identifiers(["www.example.com"]))
    await issuer.close()


async def test_a_ca_that_is_down_is_no_answer_about_its_names() -> None:
    lookup = MemoryCAA({"example.com": ["0 issue ;"]})
    issuer = make_issuer("http://127.0.0.1:1/directory", lookup)
    await issuer.check_names(normalise_identifiers(["www.example.com"]))
    assert lookup.asked == []
    await issuer.close()
