"""A configuration with real certificates in a real store, the publisher, and an edge that reads what it wrote."""

import importlib.util
import json
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from api.material import Pair, make_ca, make_leaf
from certorbit.model.entry import (
    ConfigID,
    Configuration,
    Entry,
    EntryID,
    EntryUID,
    Side,
    Source,
    Version,
    VersionID,
    key_context,
)
from certorbit.model.site import ClientCertificateMode, Site, SiteID
from certorbit.pki.read import read_facts
from certorbit.ports.bucket import PublishReport, WantedBucket
from certorbit.ports.keyring import Keyring
from certorbit.ports.store import UnitOfWork
from certorbit.publish_settings import PublishSettings
from certorbit.publishing.publisher import LIMIT_SECONDS, Publisher
from certorbit.services import publish
from certorbit.storage import SQLStore
from fakes.clock import FakeClock
from fakes.memory_keyring import MemoryKeyring
from publishing.edge_buckets import EdgeBucket

ROOT = Path(__file__).resolve().parents[2]
PROD = ConfigID("prod")


def load_reader() -> ModuleType:
    """Return examples/read_edge_bundle.py."""
    spec = importlib.util.spec_from_file_location("read_edge_bundle", ROOT / "examples" / "read_edge_bundle.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READER = load_reader()


def write_public(key: X25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def write_private(key: X25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class Scene:
    """`prod` has the certificate `placeholder`; recipient: the edge's key."""

    store: SQLStore
    clock: FakeClock = field(default_factory=FakeClock)
    keyring: Keyring = field(default_factory=MemoryKeyring)
    recipient: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    ca: Pair = field(default_factory=make_ca)
    keys: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = count(1)
        self.new_id = lambda: f"id-{next(numbers)}"

    async def fill(self) -> None:
        now = self.clock.now()
        await self.store.write(lambda tx: tx.configurations.add(Configuration(PROD, "", 1, now)))
        await self.put("placeholder", "placeholder.invalid")

    def make_version(self, uid: EntryUID, *names: str, is_ca: bool = False) -> Version:
        version, now = VersionID(self.new_id()), self.clock.now()
        leaf = self.ca if is_ca else make_leaf(self.ca, *names)
        chain = leaf.cert_pem if is_ca else leaf.cert_pem + self.ca.cert_pem
        if not is_ca:
            self.keys.append(leaf.key_pem)
        return Version(
            id=version,
            entry_uid=uid,
            created_at=now,
            source=Source.UPLOADED,
            chain_pem=chain,
            sealed_key=None if is_ca else self.keyring.seal(leaf.key_pem.encode(), context=key_context(version)),
            facts=read_facts(leaf.certificate),
            le_hash="",
            issuer_name="",
        )

    def add(
        self, tx: UnitOfWork, entry_id: str, *names: str, side: Side = Side.SERVER, crl: tuple[str, ...] = ()
    ) -> None:
        """Store a certificate, or a new version of it; without names: one that is still being issued."""
        entry = tx.entries.find(PROD, EntryID(entry_id))
        if entry is not None:
            tx.entries.add_version(self.make_version(entry.uid, *names))
            return
        uid = EntryUID(self.new_id())
        current = self.make_version(uid, *names, is_ca=side.is_ca_bundle) if names else None
        tx.entries.add(
            Entry(
                uid=uid,
                config=PROD,
                id=EntryID(entry_id),
                side=side,
                source=Source.UPLOADED,
                le_auto_renew=False,
                le_auto_replace=False,
                identifiers=names,
                provider_links=(),
                crl=crl,
                input_digest="",
                uploaded=self.clock.now(),
                current=current,
            )
        )

    async def put(self, entry_id: str, *names: str, side: Side = Side.SERVER, crl: tuple[str, ...] = ()) -> None:
        await self.store.write(lambda tx: self.add(tx, entry_id, *names, side=side, crl=crl))

    async def put_site(self, site_id: str, **fields: Any) -> None:
        site = Site(config=PROD, id=SiteID(site_id), name=site_id, client_certificate_mode=ClientCertificateMode.OFF)
        await self.store.write(lambda tx: tx.sites.put(replace(site, **fields)))

    def make_publisher(self, *buckets: EdgeBucket, limit_seconds: float = LIMIT_SECONDS, **settings: Any) -> Publisher:
        tables = tuple(bucket.settings for bucket in buckets)
        fields = {"recipient_key": write_public(self.recipient), **settings}
        return Publisher(
            settings=PublishSettings(buckets=tables, **fields),
            store=self.store,
            keyring=self.keyring,
            transactions=publish,
            clock=self.clock,
            new_id=self.new_id,
            limit_seconds=limit_seconds,
        )

    async def publish(self, *buckets: EdgeBucket, **settings: Any) -> PublishReport:
        """Publish to all of them."""
        wanted = [WantedBucket(bucket.settings.name, bucket.settings.url) for bucket in buckets]
        return await self.make_publisher(*buckets, **settings).publish(PROD, wanted)

    def read(self, bucket: EdgeBucket, *, tries: int = 1) -> dict[str, bytes]:
        """Return the edge's files by name: every digest is checked, every key opened and matched with its leaf."""
        manifest, objects = READER.load_bundle(bucket.open_folder("prod"), tries)
        files: dict[str, bytes] = READER.make_files(manifest, objects, self.recipient)
        return files


def read_manifest(bucket: EdgeBucket) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(bucket.open_folder("prod").get("manifest.json").bytes()))
    return found


def list_objects(bucket: EdgeBucket) -> dict[str, bytes]:
    store = bucket.open_folder("prod/objects")
    return {item["path"]: bytes(store.get(item["path"]).bytes()) for page in store.list() for item in page}
