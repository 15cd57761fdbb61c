"""Who gets in as what: the rules over an identity provider's claims."""

from typing import Any

import pytest
from pydantic import ValidationError

from certorbit.errors import NotAllowed
from certorbit.model.access import Role
from certorbit.model.session import VerifiedClaims, admit, rules_from
from certorbit.oidc_settings import OIDCSettings, is_safe_url
from certorbit.settings import Settings

GOOD: dict[str, Any] = {"issuer": "https://id.example.test", "client_id": "certorbit", "roles": {"ops": "operator"}}


def admit_with(claims: dict[str, Any], **settings: Any) -> Any:
    return admit(rules_from(OIDCSettings(**{**GOOD, **settings})), VerifiedClaims({"sub": "u-1", **claims}))


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["v", "a"], Role.ADMIN),
        (["v", "o"], Role.OPERATOR),
        (["v", "au"], Role.AUDITOR),
        (["e", "v"], Role.VIEWER),
        ("e", Role.EDGE),
    ],
)
def test_the_most_powerful_role_counts_in_whatever_order(groups: Any, role: Role) -> None:
    roles = {"e": "edge", "v": "viewer", "au": "auditor", "o": "operator", "a": "admin"}
    assert admit_with({"groups": groups}, roles=roles).role is role


def test_a_default_role_is_for_those_whom_nothing_meets() -> None:
    assert admit_with({"groups": ["x"]}, default_role="viewer").role is Role.VIEWER
    assert admit_with({"groups": ["ops"]}, default_role="viewer").role is Role.OPERATOR
    with pytest.raises(NotAllowed, match="gives you a role"):
        admit_with({"groups": ["x"]})


def test_a_claim_may_be_within_another_and_one_of_the_whole_name_goes_first() -> None:
    nested = {"realm_access": {"roles": ["ops"]}}
    assert admit_with(nested, role_claim="realm_access.roles").role is Role.OPERATOR
    named = {"https://example.test/groups": ["ops"]}
    assert admit_with(named, role_claim="https://example.test/groups").role is Role.OPERATOR
    with pytest.raises(NotAllowed):
        admit_with({"realm_access": ["ops"]}, role_claim="realm_access.roles")


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(["ops", "shop"], ("shop",)), (["ops", "shop", "both"], ("blog", "shop")), (["ops", "shop", "all"], ())],
)
def test_configurations_come_from_the_same_claim(groups: list[str], expected: tuple[str, ...]) -> None:
    configurations = {"shop": ("shop",), "both": ("shop", "blog"), "all": ("*",)}
    assert admit_with({"groups": groups}, configurations=configurations).configurations == expected


def test_whom_no_configuration_is_given_reaches_none_rather_than_all() -> None:
    with pytest.raises(NotAllowed, match="gives you a configuration"):
        admit_with({"groups": ["ops"]}, configurations={"shop": ("shop",)})
    with pytest.raises(NotAllowed, match="gives you a configuration"):
        admit_with({"groups": ["ops", "none"]}, configurations={"none": ()})
    assert admit_with({"groups": ["ops"]}).configurations == ()


def test_the_right_to_read_keys_is_given_by_name_alone() -> None:
    assert not admit_with({"groups": ["ops"]}).may_export_keys
    assert not admit_with({"groups": ["ops"]}, export_keys=("keepers",)).may_export_keys
    assert admit_with({"groups": ["ops", "keepers"]}, export_keys=("keepers",)).may_export_keys


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"email": "ada@example.test", "email_verified": True}, "oidc:ada@example.test"),
        ({"email": "boss@example.test"}, "oidc:u-1"),
        ({"email": "boss@example.test", "email_verified": "true"}, "oidc:u-1"),
        ({"email": "a@b@c", "email_verified": True}, "oidc:u-1"),
        ({"email": "a\n@b", "email_verified": True}, "oidc:u-1"),
        ({"email": 5, "email_verified": True}, "oidc:u-1"),
        ({"preferred_username": "ada"}, "oidc:u-1"),
    ],
)
def test_a_person_is_named_by_what_the_provider_vouches_for(claims: dict[str, Any], name: str) -> None:
    assert admit_with({"groups": ["ops"], **claims}).name == name


def test_the_operator_may_choose_another_name() -> None:
    claims = {"groups": ["ops"], "preferred_username": "ada"}
    assert admit_with(claims, name_claim="preferred_username").name == "oidc:ada"
    assert admit_with({**claims, "preferred_username": "a\nb"}, name_claim="preferred_username").name == "oidc:u-1"
    assert admit_with({**claims, "preferred_username": "x" * 300}, name_claim="preferred_username").name == "oidc:u-1"


@pytest.mark.parametrize(
    ("email", "is_verified", "gets_in"),
    [
        ("ada@Example.org", True, True),
        ("ada@example.org", False, False),
        ("ada@evil-example.org", True, False),
        ("ada@example.org.evil.test", True, False),
        ("ada@sub.example.org", True, False),
        ("", True, False),
    ],
)
def test_only_verified_addresses_of_the_domains_get_in(email: str, *, is_verified: bool, gets_in: bool) -> None:
    claims = {"groups": ["ops"], "email": email, "email_verified": is_verified}
    if gets_in:
        assert admit_with(claims, email_domains=("example.ORG",)).email == email
    else:
        with pytest.raises(NotAllowed, match="certain domains"):
            admit_with(claims, email_domains=("example.ORG",))


def test_the_digest_of_the_rules_follows_what_decides_and_nothing_else() -> None:
    def digest(**settings: Any) -> str:
        return rules_from(OIDCSettings(**{**GOOD, **settings})).digest

    assert digest(client_secret="other", timeout_seconds=3, scopes=("openid",)) == digest()
    changes: list[dict[str, Any]] = [
        {"issuer": "https://other.example.test"},
        {"client_id": "other"},
        {"roles": {"ops": "admin"}},
        {"default_role": "viewer"},
        {"configurations": {"ops": ("prod",)}},
        {"export_keys": ("ops",)},
        {"email_domains": ("example.org",)},
        {"role_claim": "roles"},
    ]
    assert len({digest(**change) for change in changes} | {digest()}) == len(changes) + 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"issuer": "http://id.example.test"}, "https URL"),
        ({"issuer": "https://id.example.test/?tenant=1"}, "https URL"),
        ({"issuer": "https://me:secret@id.example.test"}, "https URL"),
        ({"client_id": ""}, "go together"),
        ({"scopes": ("profile",)}, "openid"),
        ({"roles": {}}, "nobody could sign in"),
        ({"roles": {"ops": "root"}}, "'admin'"),
        ({"algorithms": ("none",)}, "'RS256'"),
        ({"algorithms": ("HS256",)}, "'RS256'"),
        ({"email_domains": ("ada@example.org",)}, "without @"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        OIDCSettings(**{**GOOD, **change})


@pytest.mark.parametrize("public_url", ["", "http://certs.example.test", "certs.example.test"])
def test_signing_in_needs_a_public_url_that_is_safe(public_url: str) -> None:
    with pytest.raises(ValidationError, match="oidc: set public_url"):
        Settings(public_url=public_url, oidc=OIDCSettings(**GOOD))
    assert Settings(public_url="https://certs.example.test", oidc=OIDCSettings(**GOOD)).oidc.is_on
    assert not Settings(public_url=public_url).oidc.is_on


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://id.example.test/realms/x", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080/", True),
        ("http://localhost.evil.test/", False),
        ("https://", False),
        ("https://host:99999/", False),
        ("https://a b/", False),
        ("https://a\\b/", False),
        ("ftp://host/", False),
        ("//host/", False),
    ],
)
def test_which_addresses_are_safe_to_send_secrets_to(url: str, *, is_safe: bool) -> None:
    assert is_safe_url(url) is is_safe


def test_no_representation_shows_the_client_secret() -> None:
    assert "s3cret" not in repr(OIDCSettings(**GOOD, client_secret="s3cret"))
