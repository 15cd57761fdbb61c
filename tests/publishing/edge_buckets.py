"""Buckets of all kinds for the tests of publishing, each empty and of the test's own."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from obstore.store import GCSStore, LocalStore, S3Store

from certorbit.publish_settings import BucketSettings
from publishing.gcs_stand_in import GCSStandIn
from publishing.s3_server import S3Server

KINDS = ("file", "s3", "gs")
_NUMBERS = count(1)


@dataclass(frozen=True)
class EdgeBucket:
    """settings: for Certorbit. open_folder: the same place as an edge reads it, below a folder."""

    settings: BucketSettings
    open_folder: Callable[[str], Any]


@dataclass(frozen=True)
class Places:
    """Where buckets can be made."""

    folder: Path
    s3: S3Server
    gcs: GCSStandIn

    def make(self, kind: str, *, name: str = "main", **fields: Any) -> EdgeBucket:
        return getattr(self, f"make_{kind}")(name=name, **fields)

    def make_file(self, *, name: str = "main", **fields: Any) -> EdgeBucket:
        root = self.folder / f"bucket-{next(_NUMBERS)}"
        settings = BucketSettings(name=name, url=f"file://{root}", **fields)
        return EdgeBucket(settings, lambda folder: LocalStore(root / folder))

    def make_s3(self, *, name: str = "main", **fields: Any) -> EdgeBucket:
        bucket = self.s3.make_bucket()
        keys = {"access_key_id": "test", "secret_access_key": "test", "region": "us-east-1"}
        settings = BucketSettings(
            name=name, url=f"s3://{bucket}/some/prefix", endpoint_url=self.s3.url, **{**keys, **fields}
        )
        options: Any = {"allow_http": True}
        return EdgeBucket(
            settings,
            lambda folder: S3Store(
                bucket,
                prefix=f"some/prefix/{folder}",
                config={"endpoint": self.s3.url, **keys},
                client_options=options,
            ),
        )

    def make_gs(self, *, name: str = "main", **fields: Any) -> EdgeBucket:
        prefix = f"place-{next(_NUMBERS)}"
        settings = BucketSettings(
            name=name, url=f"gs://edge/{prefix}", endpoint_url=self.gcs.url, token="emulator", **fields
        )
        options: Any = {"allow_http": True}
        return EdgeBucket(
            settings,
            lambda folder: GCSStore(
                "edge",
                prefix=f"{prefix}/{folder}",
                config={"base_url": self.gcs.url, "bearer_token": "emulator"},
                client_options=options,
            ),
        )
