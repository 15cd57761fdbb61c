"""Builds the providers that the settings tell how to reach."""

from collections.abc import Sequence

from certorbit.clock import Chance, Clock
from certorbit.errors import BadInput
from certorbit.keyring_settings import KeyringSettings
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.file_wrapping import FileWrapping
from certorbit.keys.keeper import KeyWrappings
from certorbit.model.keyring import FILE
from certorbit.ports.key_wrapping import KeyWrapping


def make_wrappings(
    settings: KeyringSettings, file_keys: Sequence[KeyEncryptionKey], *, clock: Clock, chance: Chance
) -> KeyWrappings:
    """Return the providers. Their packages are imported only where a table asks for them.

    Raises:
        BadInput: an optional package is missing.
    """
    found: dict[str, KeyWrapping] = {FILE: FileWrapping(file_keys)}
    extra = ""
    try:
        if settings.aws_kms is not None:
            extra = "aws"
            from certorbit.keys.aws_kms import AWSWrapping  # noqa: PLC0415 - an extra

            found["aws-kms"] = AWSWrapping(settings.aws_kms, clock=clock, chance=chance)
        if settings.gcp_kms is not None:
            extra = "gcp"
            from certorbit.keys.gcp_kms import GCPWrapping  # noqa: PLC0415 - an extra

            found["gcp-kms"] = GCPWrapping(settings.gcp_kms, clock=clock, chance=chance)
        if settings.transit is not None:
            from certorbit.keys.transit import TransitWrapping  # noqa: PLC0415 - aiohttp takes its time

            found["transit"] = TransitWrapping(settings.transit, clock=clock, chance=chance)
        if settings.pkcs11 is not None:
            extra = "pkcs11"
            from certorbit.keys.pkcs11_wrapping import PKCS11Wrapping  # noqa: PLC0415 - an extra

            found["pkcs11"] = PKCS11Wrapping(settings.pkcs11)
    except ImportError as error:
        raise BadInput(
            f"[keyring]: the package {error.name} is missing; install it with pip install 'certorbit[{extra}]'.",
            subject="keyring",
        ) from error
    return KeyWrappings(found, provider=settings.provider)
