"""The registered domain: the public suffix list, names in other scripts, addresses."""

import pytest

from certorbit.model.identifiers import normalise_identifier
from certorbit.model.registered_domain import registered_domain_of


@pytest.mark.parametrize(
    ("identifier", "domain"),
    [
        pytest.param("example.com", "example.com", id="itself"),
        pytest.param("a.b.example.com", "example.com", id="names below it"),
        pytest.param("*.example.com", "example.com", id="a wildcard"),
        pytest.param("www.example.co.uk", "example.co.uk", id="a suffix of two labels"),
        pytest.param("a.b.kawasaki.jp", "a.b.kawasaki.jp", id="a wildcard rule"),
        pytest.param("www.city.kawasaki.jp", "city.kawasaki.jp", id="its exception"),
        pytest.param("www.shop.github.io", "shop.github.io", id="the private part of the list"),
        pytest.param("github.io", "github.io", id="a suffix stands for itself"),
        pytest.param("*.github.io", "github.io", id="a wildcard right below a suffix"),
        pytest.param("www.intern.nowhere", "intern.nowhere", id="an unknown top level"),
        pytest.param("xn--www-hoa.xn--55qx5d.cn", "xn--www-hoa.xn--55qx5d.cn", id="a suffix in another script"),
        pytest.param("a.xn--bcher-kva.xn--p1ai", "xn--bcher-kva.xn--p1ai", id="labels in other scripts"),
        pytest.param("192.0.2.7", "192.0.2.7", id="an IPv4 address"),
        pytest.param("2001:db8:1:2:3::4", "2001:db8:1:2::/64", id="an IPv6 address"),
        pytest.param("2001:db8:1:2::", "2001:db8:1:2::/64", id="another of the same network"),
    ],
)
def test_a_name_counts_for_its_registered_domain(identifier: str, domain: str) -> None:
    assert registered_domain_of(identifier) == domain


def test_a_name_as_people_write_it_counts_for_its_a_labels() -> None:
    assert registered_domain_of(normalise_identifier("Shop.Bücher.公司.cn").value) == "xn--bcher-kva.xn--55qx5d.cn"
