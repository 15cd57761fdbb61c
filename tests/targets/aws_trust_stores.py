"""A stand-in for AWS's trust stores and mutual authentication, which moto doesn't have: rules in front of aws_server.

It keeps what AWS documents (API reference of elbv2, user guide 'Mutual authentication with TLS in Application Load
Balancer', quotas): names are unique, a new trust store is CREATING at first, one in use isn't deleted, a listener gets
an active one only, 20 per region, 25 CAs in each. The bundle and the lists are read from moto's S3 while the call runs.
What AWS doesn't document and this chooses: the code for too many CAs, a list that no CA of the bundle signed is
InvalidRevocationContent, a list shows one look after it was added.
No client is ever checked: there is no TLS.
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from cryptography import x509
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from targets.aws_server import Answer, Asked, AWSServer, Environ, Refusal, answer_xml

MOST_STORES = 20
MOST_AUTHORITIES = 25
_NAME = re.compile(r"([a-zA-Z0-9]+-)*[a-zA-Z0-9]+")
_PEM_LINE = re.compile(r"#[^-]*|-----(BEGIN|END) CERTIFICATE-----|[A-Za-z0-9+/=]+")
_MUTUAL = "MutualAuthentication."


@dataclass
class Store:
    """looks: how many more show it CREATING. lists: number of revoked certificates by revocation id."""

    name: str
    arn: str
    authorities: tuple[x509.Certificate, ...]
    tags: dict[str, str]
    looks: int
    lists: dict[int, int] = field(default_factory=dict)
    hidden: int = 0


@dataclass(frozen=True)
class Switch:
    """A listener's change: mode, and the trust store's name with the number of its lists at that instant."""

    listener: str
    mode: str
    store: str = ""
    lists: int = 0


class TrustStoreRules:
    """switches: what ModifyListener did, in order. lost_lists: of the next addition, how many AWS forgets.

    bucket_owner: the account that all buckets belong to.
    """

    def __init__(self, server: AWSServer) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self.stores: dict[tuple[str, str], Store] = {}  # by region and ARN
        self.mutual: dict[str, dict[str, Any]] = {}  # by the listener's ARN
        self.switches: list[Switch] = []
        self.lost_lists = 0
        self.looks_until_active = 1
        self.bucket_owner = DEFAULT_ACCOUNT_ID
        server.rules |= {
            "elbv2:CreateTrustStore": self._create,
            "elbv2:DescribeTrustStores": self._describe,
            "elbv2:AddTrustStoreRevocations": self._add_lists,
            "elbv2:DescribeTrustStoreRevocations": self._describe_lists,
            "elbv2:DescribeTrustStoreAssociations": self._describe_users,
            "elbv2:DeleteTrustStore": self._delete,
            "elbv2:DescribeTags": self._describe_tags,
            "elbv2:ModifyListener": self._modify_listener,
            "elbv2:DescribeListeners": self._describe_listeners,
            "s3:PutObject": self._put_object,
        }

    def names(self, region: str) -> set[str]:
        return {store.name for (place, _), store in self.stores.items() if place == region}

    def users(self, arn: str) -> list[str]:
        return [listener for listener, mutual in self.mutual.items() if mutual.get("TrustStoreArn") == arn]

    def _create(self, asked: Asked, _environ: Environ) -> Answer:
        name = asked.field("Name")
        if not _NAME.fullmatch(name) or len(name) > 32:
            raise Refusal("ValidationError", f"Trust store name '{name}' is not valid")
        if name in self.names(asked.region):
            raise Refusal("DuplicateTrustStoreName", f"A trust store with the name '{name}' already exists")
        if len(self.names(asked.region)) >= MOST_STORES:
            raise Refusal("TooManyTrustStores", "The maximum number of trust stores has been reached")
        place = asked.field("CaCertificatesBundleS3Bucket"), asked.field("CaCertificatesBundleS3Key")
        content = _read_object(*place)
        if content is None:
            raise Refusal("CaCertificatesBundleNotFound", "The specified ca certificate bundle does not exist")
        arn = (
            f"arn:aws:elasticloadbalancing:{asked.region}:{asked.account}:truststore/{name}/{next(self._numbers):016x}"
        )
        tags = dict(zip(_list(asked, "Tags", "Key"), _list(asked, "Tags", "Value"), strict=True))
        store = Store(name, arn, _read_bundle(content), tags, self.looks_until_active)
        self.stores[asked.region, arn] = store
        return _answer("CreateTrustStore", f"<TrustStores>{_write(store)}</TrustStores>")

    def _describe(self, asked: Asked, _environ: Environ) -> Answer:
        arns, names = _list(asked, "TrustStoreArns"), _list(asked, "Names")
        mine = [store for (region, _), store in self.stores.items() if region == asked.region]
        found = [store for store in mine if not (arns or names) or store.arn in arns or store.name in names]
        if (arns or names) and not found:
            raise Refusal("TrustStoreNotFound", "One or more trust stores not found")
        members = "".join(_write(store) for store in found)
        for store in found:
            store.looks = max(0, store.looks - 1)
        return _answer("DescribeTrustStores", f"<TrustStores>{members}</TrustStores>")

    def _add_lists(self, asked: Asked, _environ: Environ) -> Answer:
        store = self._get(asked)
        if store.looks:
            raise Refusal("TrustStoreNotReady", "The trust store is not active")
        places = zip(
            _list(asked, "RevocationContents", "S3Bucket"), _list(asked, "RevocationContents", "S3Key"), strict=True
        )
        counts = [_count_revoked(_read_object(*place), store) for place in places]
        kept = counts[: len(counts) - self.lost_lists]
        self.lost_lists = 0
        store.lists |= {next(self._numbers): count for count in kept}
        store.hidden = len(kept)
        return _answer("AddTrustStoreRevocations", "<TrustStoreRevocations/>")

    def _describe_lists(self, asked: Asked, _environ: Environ) -> Answer:
        store = self._get(asked)
        shown = list(store.lists.items())[: len(store.lists) - store.hidden]
        store.hidden = 0
        members = "".join(
            f"<member><TrustStoreArn>{store.arn}</TrustStoreArn><RevocationId>{number}</RevocationId><RevocationType>CRL"
            f"</RevocationType><NumberOfRevokedEntries>{count}</NumberOfRevokedEntries></member>"
            for number, count in shown
        )
        result = f"<TrustStoreRevocations>{members}</TrustStoreRevocations>"
        return _answer("DescribeTrustStoreRevocations", result)

    def _describe_users(self, asked: Asked, _environ: Environ) -> Answer:
        users = self.users(self._get(asked).arn)
        members = "".join(f"<member><ResourceArn>{arn}</ResourceArn></member>" for arn in users)
        result = f"<TrustStoreAssociations>{members}</TrustStoreAssociations>"
        return _answer("DescribeTrustStoreAssociations", result)

    def _delete(self, asked: Asked, _environ: Environ) -> Answer:
        store = self._get(asked)
        if self.users(store.arn):
            raise Refusal("TrustStoreInUse", f"Trust store '{store.arn}' is currently in use by a listener")
        del self.stores[asked.region, store.arn]
        return _answer("DeleteTrustStore", "")

    def _describe_tags(self, asked: Asked, environ: Environ) -> Answer:
        arns = _list(asked, "ResourceArns")
        if not any(":truststore/" in arn for arn in arns):
            return self._server.ask_moto(environ)
        if len(arns) > 20:
            raise Refusal("ValidationError", "The maximum number of resources is 20")
        members = ""
        for arn in arns:
            store = self.stores.get((asked.region, arn))
            if store is None:
                raise Refusal("TrustStoreNotFound", f"Trust store '{arn}' not found")
            tags = "".join(
                f"<member><Key>{escape(key)}</Key><Value>{escape(value)}</Value></member>"
                for key, value in store.tags.items()
            )
            members += f"<member><ResourceArn>{arn}</ResourceArn><Tags>{tags}</Tags></member>"
        return _answer("DescribeTags", f"<TagDescriptions>{members}</TagDescriptions>")

    def _modify_listener(self, asked: Asked, environ: Environ) -> Answer:
        """What isn't named stays as it is, in both directions."""
        given = {name.removeprefix(_MUTUAL): asked.field(name) for name in asked.form if name.startswith(_MUTUAL)}
        listener = self._server.listener(asked)
        if not given:
            return self._server.modify(asked, environ)
        if listener.protocol != "HTTPS":
            raise Refusal("InvalidConfigurationRequest", "Mutual authentication is for HTTPS listeners")
        mode, arn = given.get("Mode", ""), given.get("TrustStoreArn", "")
        if mode not in {"off", "passthrough", "verify"}:
            raise Refusal("ValidationError", f"Mode '{mode}' must be one of: off, passthrough, verify")
        if (mode == "verify") != bool(arn) or (mode != "verify" and len(given) > 1):
            raise Refusal("ValidationError", "A trust store ARN must be given for mode verify, and for no other")
        if mode == "verify":
            store = self._get(asked, arn)
            if store.looks:
                raise Refusal("TrustStoreNotReady", "The trust store is not active")
            self.switches.append(Switch(listener.arn, mode, store.name, len(store.lists)))
        else:
            self.switches.append(Switch(listener.arn, mode))
        self.mutual[listener.arn] = given
        return _answer("ModifyListener", "<Listeners/>")

    def _describe_listeners(self, asked: Asked, environ: Environ) -> Answer:
        status, headers, content = self._server.ask_moto(environ)
        root = ET.fromstring(content)
        for member in root.iterfind(".//{*}Listeners/{*}member"):
            arn, protocol = (member.findtext(f"{{*}}{name}") for name in ("ListenerArn", "Protocol"))
            if protocol == "HTTPS":
                shown = ET.SubElement(member, "MutualAuthentication")
                for name, value in self.mutual.get(arn or "", {"Mode": "off"}).items():
                    ET.SubElement(shown, name).text = value
        return status, headers, ET.tostring(root)

    def _put_object(self, _asked: Asked, environ: Environ) -> Answer:
        if environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER", self.bucket_owner) != self.bucket_owner:
            raise Refusal("AccessDenied", "Access Denied", 403)
        return self._server.ask_moto(environ)

    def _get(self, asked: Asked, arn: str = "") -> Store:
        wanted = arn or asked.field("TrustStoreArn")
        if (asked.region, wanted) not in self.stores:
            raise Refusal("TrustStoreNotFound", f"Trust store '{wanted}' not found")
        return self.stores[asked.region, wanted]


def _read_object(bucket: str, key: str) -> bytes | None:
    buckets = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets
    found = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].get_object(bucket, key) if bucket in buckets else None
    return bytes(found.value) if found is not None else None


def _read_bundle(content: bytes) -> tuple[x509.Certificate, ...]:
    refusal = Refusal("InvalidCaCertificatesBundle", "The ca certificate bundle is in an invalid format, or corrupt")
    text = content.decode(errors="replace")
    if not all(_PEM_LINE.fullmatch(line) for line in text.splitlines()):
        raise refusal
    try:
        found = tuple(x509.load_pem_x509_certificates(content))
        constraints = [one.extensions.get_extension_for_class(x509.BasicConstraints).value for one in found]
    except (ValueError, x509.ExtensionNotFound):
        raise refusal from None
    if len(found) > MOST_AUTHORITIES or not all(one.ca for one in constraints):
        raise refusal
    return found


def _count_revoked(content: bytes | None, store: Store) -> int:
    """Return how many certificates the list has."""
    if content is None:
        raise Refusal("RevocationContentNotFound", "The specified revocation file does not exist")
    refusal = Refusal("InvalidRevocationContent", "The provided revocation file is an invalid format")
    if content.count(b"-----BEGIN X509 CRL-----") != 1:
        raise refusal
    try:
        crl = x509.load_pem_x509_crl(content)
    except ValueError:
        raise refusal from None
    signers = [one for one in store.authorities if one.subject == crl.issuer]
    if not any(crl.is_signature_valid(one.public_key()) for one in signers):  # type: ignore[arg-type]
        raise refusal
    return len(crl)


def _list(asked: Asked, name: str, part: str = "") -> list[str]:
    tail = f".{part}" if part else ""
    numbered = itertools.takewhile(
        lambda key: key in asked.form, (f"{name}.member.{n}{tail}" for n in itertools.count(1))
    )
    return [asked.field(key) for key in numbered]


def _write(store: Store) -> str:
    values: Mapping[str, object] = {
        "Name": store.name,
        "TrustStoreArn": store.arn,
        "Status": "CREATING" if store.looks else "ACTIVE",
        "NumberOfCaCertificates": len(store.authorities),
        "TotalRevokedEntries": sum(store.lists.values()),
    }
    return "<member>" + "".join(f"<{name}>{value}</{name}>" for name, value in values.items()) + "</member>"


def _answer(action: str, result: str) -> Answer:
    return answer_xml(f"<{action}Result>{result}</{action}Result>", action)
