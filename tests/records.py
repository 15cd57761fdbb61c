"""Keyword builders for what the store holds. The values are made up: the store looks into none of them."""

# ruff: noqa: A002 - the arguments have the names of the fields

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from certorbit.errors import RetryRule
from certorbit.model.access import APIKey, APIKeyID, Role
from certorbit.model.balancer import Endpoint, HeldCopy, Listener, ListenerKey
from certorbit.model.change import Change, ChangeKind
from certorbit.model.deployment import (
    Attachment,
    AttachmentID,
    Handshake,
    Proof,
    Rollout,
    Snapshot,
    Stage,
    Wanted,
)
from certorbit.model.entry import (
    ConfigID,
    Configuration,
    Entry,
    EntryID,
    EntryUID,
    ProviderLink,
    Side,
    Source,
    Version,
    VersionID,
)
from certorbit.model.material import CertificateFacts
from certorbit.model.operation import Operation, OperationID, OperationKind, OperationState, Problem
from certorbit.model.order import Account, Challenge, OrderID, OrderIntent
from certorbit.model.session import Session, SessionID
from certorbit.model.site import ClientCertificateMode, Site, SiteID
from certorbit.ports.authority_store import Authority

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
PROD = ConfigID("prod")


def make_configuration(id: str = "prod", *, description: str = "", version: int = 1) -> Configuration:
    return Configuration(id=ConfigID(id), description=description, version=version, date=NOW)


def make_facts(*, san: tuple[str, ...] = ("www.example.test", "192.0.2.1")) -> CertificateFacts:
    return CertificateFacts(
        subject="CN=www.example.test",
        issuer="C=US, O=Let's Encrypt, CN=R11",
        san=san,
        not_before=datetime(2026, 11, 1, tzinfo=UTC),
        not_after=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),  # RFC 5280 §4.1.2.5: no well-defined expiry
        serial="0a1b",
        cdp=("http://crl.example.test/1.crl",),
        fingerprint="ab" * 32,
        public_key_sha256="cd" * 32,
        key_algorithm="ECDSA P-256",
        authority_key_id="ef" * 20,
        is_ca=False,
    )


def make_version(
    entry_uid: str,
    *,
    id: str = "",
    created_at: datetime = NOW,
    sealed_key: bytes | None = b"\x00sealed\xff",
) -> Version:
    return Version(
        id=VersionID(id or uuid4().hex),
        entry_uid=EntryUID(entry_uid),
        created_at=created_at,
        source=Source.GENERATED,
        chain_pem="-----BEGIN CERTIFICATE-----\nMII…\n-----END CERTIFICATE-----\n",
        sealed_key=sealed_key,
        facts=make_facts(),
        le_hash="12" * 32,
        issuer_name="acme",
    )


def make_entry(
    id: str = "shop",
    *,
    uid: str = "",
    config: str = "prod",
    side: Side = Side.SERVER,
    with_version: bool = True,
) -> Entry:
    uid = uid or uuid4().hex
    return Entry(
        uid=EntryUID(uid),
        config=ConfigID(config),
        id=EntryID(id),
        side=side,
        source=Source.GENERATED,
        le_auto_renew=True,
        le_auto_replace=False,
        identifiers=("www.example.test", "shop.example.test"),
        provider_links=(ProviderLink("arn:aws:acm:eu-1:1:certificate/é", "aws", "eu-1"),),
        crl=(),
        input_digest="34" * 32,
        uploaded=NOW,
        current=make_version(uid) if with_version else None,
    )


def make_problem(message: str = "The CA said no.") -> Problem:
    return Problem(
        message=message,
        type="urn:ietf:params:acme:error:dns",
        detail="DNS problem\x00: NXDOMAIN",  # a CA may say anything
        subproblems={"www.example.test": "no such name"},
        retry=RetryRule.AT,
        retry_at=NOW,
        keeps_order=True,
    )


def make_operation(
    id: str = "",
    *,
    entry_id: str = "shop",
    entry_uid: str = "",
    config: str = "prod",
    state: OperationState = OperationState.QUEUED,
    created_at: datetime = NOW,
    problem: Problem | None = None,
    kind: OperationKind = OperationKind.ISSUE,
) -> Operation:
    return Operation(
        id=OperationID(id or uuid4().hex),
        kind=kind,
        config=ConfigID(config),
        entry_id=EntryID(entry_id),
        entry_uid=EntryUID(entry_uid or uuid4().hex),
        identifiers=("www.example.test",),
        state=state,
        attempt=1,
        promised=False,
        created_at=created_at,
        updated_at=created_at,
        finished_at=None,
        next_attempt_at=None,
        issuer_name="",
        problem=problem,
    )


def make_intent(id: str = "", *, operation: str = "", attempt: int = 1, url: str = "") -> OrderIntent:
    return OrderIntent(
        id=OrderID(id or uuid4().hex),
        operation=OperationID(operation or uuid4().hex),
        attempt=attempt,
        issuer_name="acme",
        account="https://ca.example.test/acct/1",
        identifiers=("www.example.test",),
        identifiers_hash="56" * 32,
        sealed_key=b"sealed",
        url=url,
        requests=0,
        created_at=NOW,
    )


def make_account(name: str = "acme", *, directory: str = "https://ca.example.test/dir") -> Account:
    return Account(
        directory=directory,
        name=name,
        sealed_key=b"sealed",
        url="",
        contact=("mailto:ops@example.test",),
        created_at=NOW,
    )


def make_challenge(token: str = "token-1", *, expires_at: datetime = NOW) -> Challenge:
    return Challenge(token=token, key_authorization=f"{token}.thumbprint", expires_at=expires_at)


def make_api_key(id: str = "", *, digest: str = "", created_at: datetime = NOW) -> APIKey:
    return APIKey(
        id=APIKeyID(id or uuid4().hex),
        name="ci",
        prefix="co_abc",
        digest=digest or uuid4().hex * 2,
        role=Role.VIEWER,
        may_export_keys=True,
        created_at=created_at,
    )


def make_session(digest: str = "", *, subject: str = "", created_at: datetime = NOW) -> Session:
    digest = digest or uuid4().hex
    return Session(
        id=SessionID(f"session-{digest}"),
        digest=digest,
        state_digest=f"state of {digest}",
        rules_digest="ef" * 32,
        subject=subject or f"subject-of-{digest}",
        name="oidc:ada@example.test",
        email="ada@example.test",
        role=Role.OPERATOR,
        may_export_keys=True,
        configurations=(ConfigID("prod"), ConfigID("é")),
        created_at=created_at,
        expires_at=created_at + timedelta(hours=1),
        last_seen_at=created_at,
    )


def make_authority() -> Authority:
    return Authority(
        root_pem="root", issuing_pem="issuing", sealed_root_key=b"r", sealed_issuing_key=b"i", created_at=NOW
    )


def make_key(listener: str = "https", *, target: str = "edge", port: int = 443) -> ListenerKey:
    return ListenerKey(target=target, region="eu-1", load_balancer="web", listener=listener, port=port)


def make_listener(key: ListenerKey | None = None, *, default: str = "arn:1") -> Listener:
    return Listener(
        key=key or make_key(),
        provider="aws",
        kind="application",
        dns_name="web.example.test",
        max_certificates=25,
        default=default,
        certificates=("arn:3", "arn:2"),
        endpoints=(Endpoint("web.example.test", 443), Endpoint("2001:db8::1", 8443)),
    )


def make_proof(*, is_served: bool = True) -> Proof:
    handshakes = (
        Handshake(address="192.0.2.1", port=443, server_name="www.example.test", leaf="ab" * 32),
        Handshake(address="2001:db8::1", port=443, server_name="", leaf="", error="refused\x00"),
    )
    return Proof(at=NOW, is_served=is_served, message="" if is_served else "Another one.", handshakes=handshakes)


def make_attachment(
    entry: Entry,
    key: ListenerKey | None = None,
    *,
    id: str = "",
    is_default: bool = False,
    wanted: Wanted = Wanted.ATTACHED,
) -> Attachment:
    return Attachment(
        id=AttachmentID(id or uuid4().hex),
        listener=key or make_key(),
        provider="aws",
        kind="application",
        config=entry.config,
        entry_id=entry.id,
        entry_uid=entry.uid,
        is_default=is_default,
        wanted=wanted,
        promised=True,
        created_at=NOW,
        updated_at=NOW,
    )


def make_copy(
    handle: str = "arn:1",
    *,
    target: str = "edge",
    scope: str = "eu-1",
    entry_uid: str = "u-shop",
    config: str = "prod",
    updated_at: datetime = NOW,
    is_doomed: bool = False,
) -> HeldCopy:
    return HeldCopy(
        target=target,
        scope=scope,
        handle=handle,
        link=f"https://example.test/{handle}",
        provider="aws",
        region="eu-1",
        config=ConfigID(config),
        entry_id=EntryID("shop"),
        entry_uid=EntryUID(entry_uid),
        version=VersionID("v1"),
        updated_at=updated_at,
        is_doomed=is_doomed,
    )


def make_rollout(
    operation: str = "o1", attachment: str = "a1", *, key: ListenerKey | None = None, updated_at: datetime = NOW
) -> Rollout:
    return Rollout(
        operation=OperationID(operation),
        attachment=AttachmentID(attachment),
        listener=key or make_key(),
        is_default=True,
        from_version=VersionID("v1"),
        to_version=VersionID("v2"),
        stage=Stage.ROLLED_BACK,
        updated_at=updated_at,
        before=Snapshot(default="arn:1", certificates=("arn:3", "arn:2")),
        proof=make_proof(is_served=False),
        problem=make_problem(),
    )


def make_site(id: str = "shop", *, config: str = "prod", ssl_certificate: str = "shop") -> Site:
    return Site(
        config=ConfigID(config),
        id=SiteID(id),
        name="Shop",
        description="Für Gäste",
        server_names=("www.example.test", "a.example.test"),
        ssl_certificate=ssl_certificate,
        client_certificate="clients",
        client_certificate_mode=ClientCertificateMode.OPTIONAL,
        security_policy="strict",
        routing_profile="r",
        proxy_template="p",
        challenge_cookie_domain="example.test",
        mobile_application_group="m",
    )


def make_change(id: str = "shop") -> Change:
    return Change(
        kind=ChangeKind.CERTIFICATE, id=id, before=None, after={"side": "server", "names": ["é\x00"], "version": "v1"}
    )
