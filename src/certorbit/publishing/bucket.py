"""`s3://` and `gs://` buckets by obstore, which tries again by itself (connections, 5xx, throttling) with jitter."""

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import GCSStore, S3Store

from certorbit.errors import BadInput, CertorbitError, Publishing, Unreachable
from certorbit.ports.bucket import StoredObject
from certorbit.publish_settings import BucketSettings, split_bucket_url

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

CONNECT_SECONDS: Final = 3.0
CALL_SECONDS: Final = 8.0
MOST_RETRIES: Final = 3
_RETRY_SECONDS: Final = 10.0
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>([^<]{1,100})</Code>")
_WORDS: Final = re.compile(r"<Message>([^<]{1,300})</Message>")
# Of the answers that are no, those that may be a yes soon: time out, conflict with another write, too many requests.
_PASSING: Final = frozenset({408, 409, 429})


class ObjectBucket:
    """Implements `ports.bucket.Bucket`."""

    def __init__(self, *, settings: BucketSettings, store: S3Store | GCSStore, keeps_versions: bool) -> None:
        """keeps_versions: an object's revision is its generation (GCS), not its entity tag (S3)."""
        self._settings = settings
        self._store = store
        self._keeps_versions = keeps_versions

    @property
    def name(self) -> str:
        return self._settings.name

    @property
    def url(self) -> str:
        return self._settings.url

    async def read(self, folder: str, name: str, *, most_bytes: int) -> StoredObject | None:
        try:
            with self._border("read"):
                found = await obstore.get_async(self._store, f"{folder}/{name}")
                if found.meta["size"] > most_bytes:
                    raise BadInput(
                        f"The bucket {self.name!r}: {folder}/{name} is larger than {most_bytes} bytes, so it is none of"
                        " ours; move it away.",
                        subject=self.name,
                    )
                content = bytes(await found.bytes_async())
                revision = found.meta["version" if self._keeps_versions else "e_tag"] or ""
        except _Missing as missing:
            if missing.is_bucket:
                raise self._gone() from missing
            return None
        return StoredObject(content, revision)

    async def list_sizes(self, folder: str) -> Mapping[str, int]:
        sizes: dict[str, int] = {}
        try:
            with self._border("list"):
                async for page in obstore.list(self._store, folder, chunk_size=1000):
                    for item in page:
                        place, _, name = item["path"].rpartition("/")
                        if place == folder:
                            sizes[name] = item["size"]
        except _Missing as missing:
            raise self._gone() from missing
        return sizes

    async def write(self, folder: str, name: str, content: bytes) -> None:
        try:
            with self._border("write"):
                await obstore.put_async(self._store, f"{folder}/{name}", content, use_multipart=False)
        except _Missing as missing:
            raise self._gone() from missing

    async def replace(self, folder: str, name: str, content: bytes, *, instead_of: StoredObject | None) -> None:
        try:
            with self._border("write"):
                await self._put(f"{folder}/{name}", content, instead_of=instead_of)
        except _Missing as missing:
            raise self._gone() from missing
        except _Changed as changed:
            # A try of ours whose answer was lost looks the same.
            if not await self._has(f"{folder}/{name}", content):
                raise Publishing(
                    f"Somebody else wrote {folder}/{name} in the bucket {self.name!r} at the same time; try again.",
                    subject=self.name,
                ) from changed

    async def remove(self, folder: str, names: Collection[str]) -> None:
        if not names:
            return
        try:
            await self._delete([f"{folder}/{name}" for name in names])
        except _Missing as missing:
            if missing.is_bucket:
                raise self._gone() from missing
            # GCS ends the whole call at the first one that is gone.
            for name in names:
                with suppress(_Missing):
                    await self._delete([f"{folder}/{name}"])

    async def _delete(self, paths: list[str]) -> None:
        with self._border("delete"):
            await obstore.delete_async(self._store, paths)

    async def _has(self, path: str, content: bytes) -> bool:
        try:
            with self._border("read"):
                found = await obstore.get_async(self._store, path)
                return found.meta["size"] == len(content) and bytes(await found.bytes_async()) == content
        except _Missing:
            return False

    async def _put(self, path: str, content: bytes, *, instead_of: StoredObject | None) -> None:
        if not self._settings.conditional_writes or (instead_of is not None and not instead_of.revision):
            await obstore.put_async(self._store, path, content, use_multipart=False)
        elif instead_of is None:
            await obstore.put_async(self._store, path, content, use_multipart=False, mode="create")
        elif self._keeps_versions:
            await obstore.put_async(
                self._store, path, content, use_multipart=False, mode={"version": instead_of.revision}
            )
        else:
            await obstore.put_async(
                self._store, path, content, use_multipart=False, mode={"e_tag": instead_of.revision}
            )

    def _gone(self) -> BadInput:
        return BadInput(
            f"The bucket {self.name!r} ({self.url}) does not exist; create it, or correct its url in"
            " [[publish.buckets]].",
            subject=self.name,
        )

    @contextmanager
    def _border(self, what: str) -> Iterator[None]:
        """Turn obstore's errors into ours."""
        try:
            yield
        except FileNotFoundError as error:
            raise _Missing(str(error)) from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise _Changed from error
        except BaseError as error:
            raise self._translate(error, what) from error

    def _translate(self, error: BaseError, what: str) -> CertorbitError:
        text = str(error)
        if "NoSuchBucket" in text:
            return self._gone()
        status = int(found[1]) if (found := _STATUS.search(text)) else 0
        reason = _explain(text)
        if 300 <= status < 500 and status not in _PASSING:
            return BadInput(
                f"The bucket {self.name!r} refuses to {what}: {reason} Check its credentials, their rights, and its"
                " region in [[publish.buckets]].",
                subject=self.name,
            )
        return Unreachable(
            f"The bucket {self.name!r} can't be reached to {what}: {reason}", subject=self.name, phase="bucket"
        )


class _Missing(Exception):
    """There is no such object, or not even the bucket. It never leaves this module."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.is_bucket = "NoSuchBucket" in text


class _Changed(Exception):
    """The object is not the one that was to be replaced. It never leaves this module."""


def open_object_bucket(settings: BucketSettings) -> ObjectBucket:
    """Return the bucket; nothing is asked of it yet. Raises BadInput if the settings can't be used."""
    scheme, bucket, prefix = split_bucket_url(settings.url)
    client: ClientConfig = {
        "allow_http": settings.endpoint_url.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=CALL_SECONDS),
    }
    retry: RetryConfig = {
        "max_retries": MOST_RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_SECONDS),
        "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    try:
        if settings.ca_bundle is not None:
            client["root_certificate"] = settings.ca_bundle.read_bytes()
        store: S3Store | GCSStore
        if scheme == "s3":
            store = S3Store(
                bucket, prefix=prefix or None, config=_s3_config(settings), client_options=client, retry_config=retry
            )
        else:
            store = GCSStore(
                bucket, prefix=prefix or None, config=_gcs_config(settings), client_options=client, retry_config=retry
            )
    except (BaseError, OSError, ValueError) as error:
        raise BadInput(
            f"The bucket {settings.name!r} can't be opened: {_explain(str(error))} Correct it in [[publish.buckets]].",
            subject=settings.name,
        ) from error
    return ObjectBucket(settings=settings, store=store, keeps_versions=scheme == "gs")


def _s3_config(settings: BucketSettings) -> "S3Config":
    """Return what the settings say; obstore takes the rest from the environment."""
    config: S3Config = {"virtual_hosted_style_request": settings.virtual_hosted}
    if settings.region:
        config["region"] = settings.region
    if settings.endpoint_url:
        config["endpoint"] = settings.endpoint_url
    if settings.access_key_id:
        config["access_key_id"] = settings.access_key_id
        config["secret_access_key"] = settings.secret_access_key.get_secret_value()
    if token := settings.session_token.get_secret_value():
        config["session_token"] = token
    return config


def _gcs_config(settings: BucketSettings) -> "GCSConfig":
    config: GCSConfig = {}
    if settings.endpoint_url:
        config["base_url"] = settings.endpoint_url
    if settings.credentials_file is not None:
        config["service_account"] = str(settings.credentials_file)
    if settings.token is not None:
        config["bearer_token"] = settings.token.get_secret_value()
    return config


def _explain(text: str) -> str:
    """Return the provider's own words, else the first line; the rest may quote what was sent."""
    code, words = _CODE.search(text), _WORDS.search(text)
    if code:
        return f"{code[1]}: {words[1]}" if words else f"{code[1]}."
    line = text.partition("\n")[0].partition("<")[0].strip()[:300]
    return line if line.endswith(".") else line + "."
