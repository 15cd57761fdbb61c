"""Which buckets a request means. It can choose among those of the settings, and name no other place to write to."""

from collections.abc import Sequence

from certorbit.errors import BadInput
from certorbit.ports.bucket import WantedBucket
from certorbit.publish_settings import BucketSettings, PublishSettings


def choose_buckets(wanted: Sequence[WantedBucket], settings: PublishSettings) -> list[BucketSettings]:
    """Return the buckets in the order asked for, each once; the default one if none is asked for.

    The URL decides. Clients have names of their own for buckets; only one that is another bucket's here is refused.

    Raises:
        BadInput: one isn't in the settings, or none is.
    """
    if not settings.buckets:
        raise BadInput(
            "There is no bucket to publish to; name one in [[publish.buckets]] of the settings.", subject="buckets"
        )
    if not wanted:
        by_name = {bucket.name: bucket for bucket in settings.buckets}
        return [by_name[settings.default] if settings.default else settings.buckets[0]]
    chosen = {bucket.name: bucket for bucket in (_find(one, settings) for one in wanted)}
    return list(chosen.values())


def _find(wanted: WantedBucket, settings: PublishSettings) -> BucketSettings:
    name, url = wanted.name.strip(), wanted.url.strip().rstrip("/")
    if not name or not url:
        raise BadInput(
            f"A bucket needs a name and a url, both not empty. Allowed are {_allowed(settings)}.", subject="buckets"
        )
    by_url = next((bucket for bucket in settings.buckets if bucket.url == url), None)
    by_name = next((bucket for bucket in settings.buckets if bucket.name == name), None)
    if by_url is None or (by_name is not None and by_name is not by_url):
        raise BadInput(
            f"The bucket {name[:63]!r} with the url {url[:200]!r} is none of those in the settings. Allowed are"
            f" {_allowed(settings)}.",
            subject="buckets",
        )
    return by_url


def _allowed(settings: PublishSettings) -> str:
    return ", ".join(f"{bucket.name!r} ({bucket.url})" for bucket in settings.buckets)
