"""From a `[[publish.buckets]]` table to its bucket. obstore is an extra, and imported only where it is needed."""

from importlib import import_module

from certorbit.errors import BadInput
from certorbit.ports.bucket import Bucket
from certorbit.publish_settings import BucketSettings, split_bucket_url
from certorbit.publishing.file_bucket import FileBucket


def open_bucket(settings: BucketSettings) -> Bucket:
    """Return the bucket; nothing is asked of it yet.

    Raises:
        BadInput: a package that it needs isn't installed, or a file that the settings name can't be used.
    """
    scheme, _, path = split_bucket_url(settings.url)
    if scheme == "file":
        return FileBucket(name=settings.name, url=settings.url, root=path)
    try:
        module = import_module("certorbit.publishing.bucket")
    except ImportError as error:
        raise BadInput(
            f"The bucket {settings.name!r} needs packages that are not installed ({error.name}); run"
            " `pip install certorbit[publish]`.",
            subject="publish",
        ) from error
    bucket: Bucket = module.open_object_bucket(settings)
    return bucket
