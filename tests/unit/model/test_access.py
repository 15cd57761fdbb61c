"""Roles, rights, and what a key of some configurations may reach."""

import pytest

from certorbit.errors import BadInput, NotAllowed
from certorbit.model.access import APIKeyID, Principal, Right, Role
from certorbit.model.addresses import find_client, group_of, is_within, read_networks
from certorbit.model.entry import ConfigID


def make_principal(role: Role = Role.OPERATOR, *configurations: str) -> Principal:
    return Principal(
        key_id=APIKeyID("k"),
        name="ci",
        role=role,
        may_export_keys=False,
        configurations=frozenset(map(ConfigID, configurations)),
    )


def test_the_older_name_of_the_viewer_still_means_it() -> None:
    assert Role("read-only") is Role.VIEWER
    with pytest.raises(ValueError, match="root"):
        Role("root")


@pytest.mark.parametrize(
    ("role", "rights"),
    [
        (Role.ADMIN, {Right.READ_CERTIFICATES, Right.READ, Right.WRITE, Right.ADMINISTER, Right.AUDIT}),
        (Role.OPERATOR, {Right.READ_CERTIFICATES, Right.READ, Right.WRITE}),
        (Role.VIEWER, {Right.READ_CERTIFICATES, Right.READ}),
        (Role.AUDITOR, {Right.READ_CERTIFICATES, Right.READ, Right.AUDIT}),
        (Role.EDGE, {Right.READ_CERTIFICATES}),
    ],
)
def test_each_role_has_its_rights_and_no_others(role: Role, rights: set[Right]) -> None:
    assert {right for right in Right if make_principal(role).has(right)} == rights


def test_a_key_without_a_limit_reaches_everything() -> None:
    caller = make_principal()
    assert not caller.is_limited
    caller.check_configuration("anything")
    caller.check_unlimited()


def test_a_key_of_some_configurations_reaches_these_and_nothing_that_concerns_all() -> None:
    caller = make_principal(Role.ADMIN, "shop", "blog")
    caller.check_configuration("shop")
    with pytest.raises(NotAllowed, match="'ci' is not for the configuration 'prod', only for blog, shop"):
        caller.check_configuration("prod")
    with pytest.raises(NotAllowed, match="for blog, shop only, and this concerns every configuration"):
        caller.check_unlimited()


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("10.2.0.1", False),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_an_address_is_in_a_network_or_not(address: str, *, inside: bool) -> None:
    networks = read_networks(["10.1.0.0/16", "2001:db8::/32", "192.0.2.7"], subject="allowed_addresses")
    assert is_within(address, networks) is inside


@pytest.mark.parametrize(
    "text", ["", "10.1.2.3/16", "10.0.0.0/33", "example.test", "10.0.0.0/8/8", "::ffff:10.0.0.0/104"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="allowed_addresses: "):
        read_networks([text], subject="allowed_addresses")


def test_callers_of_one_ipv6_network_count_as_one() -> None:
    assert group_of("2001:db8:1:2:3::4") == group_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert group_of("2001:db8:1:3::1") != group_of("2001:db8:1:2::1")
    assert group_of("::ffff:192.0.2.1") == group_of("192.0.2.1") == "192.0.2.1"
    assert group_of("") == ""


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        pytest.param("203.0.113.9", ["198.51.100.1"], "203.0.113.9", id="a stranger's header is not believed"),
        pytest.param("10.0.0.1", [], "10.0.0.1", id="a proxy that says nothing"),
        pytest.param("10.0.0.1", ["198.51.100.1"], "198.51.100.1", id="one proxy"),
        pytest.param("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1", id="the client's own entry is before"),
        pytest.param("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1", id="two proxies"),
        pytest.param("10.0.0.1", ["198.51.100.1", "10.0.0.2"], "198.51.100.1", id="two headers"),
        pytest.param("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1", id="last untrusted hop"),
        pytest.param("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3", id="proxies only"),
        pytest.param("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1", id="what is no address ends it"),
        pytest.param("10.0.0.1", [""], "10.0.0.1", id="empty"),
        pytest.param("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1", id="with a port"),
        pytest.param("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1", id="IPv6 with a port"),
        pytest.param("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1", id="a proxy's IPv4 address in IPv6"),
        pytest.param("", ["198.51.100.1"], "", id="no network address at all"),
    ],
)
def test_the_client_is_the_last_hop_that_is_no_proxy_of_ours(peer: str, forwarded: list[str], client: str) -> None:
    trusted = read_networks(["10.0.0.0/8"], subject="access.trusted_proxies")
    assert find_client(peer, forwarded, trusted=trusted) == client


def test_an_endless_list_of_hops_is_read_to_a_bound() -> None:
    trusted = read_networks(["10.0.0.0/8"], subject="access.trusted_proxies")
    assert find_client("10.0.0.1", ["198.51.100.1" + ", 10.0.0.2" * 50], trusted=trusted) == "10.0.0.2"
