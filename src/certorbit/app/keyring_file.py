"""The keyring after a restore: puts the key file of a backup into its place, and sees whether everything opens."""

import asyncio
from pathlib import Path

from certorbit.app.database import open_store
from certorbit.app.ground import CHANCE, CLOCK
from certorbit.errors import NotFound, Refused
from certorbit.keys.check import open_keyring
from certorbit.keys.sources import key_file, load_keys, read_key_text, write_key_file
from certorbit.settings import Settings


def check_keyring_fits(settings: Settings, text: str) -> Path | None:
    """Return where the backup's keys are to be written; None: these keys are there already.

    Raises:
        Refused: there are other keys, which would be lost or would be missing.
    """
    try:
        present = read_key_text(settings)
    except NotFound:
        return key_file(settings)
    if set(text.replace(",", " ").split()) <= set(present.replace(",", " ").split()):
        return None
    place = "CERTORBIT_KEY_ENCRYPTION_KEY" if settings.key_encryption_key.get_secret_value() else key_file(settings)
    raise Refused(
        f"The backup holds keys that are not in {place}. Take that away for the restore; then merge both by hand, the"
        " backup's first.",
        subject="key_encryption_key",
    )


def put_keyring(path: Path, text: str, settings: Settings) -> None:
    """Write the keys of a backup as the key file. Raises BadInput: it can't be written, or holds no keys."""
    write_key_file(path, "\n".join(text.replace(",", " ").split()).encode() + b"\n")
    load_keys(settings)


def check_restored(settings: Settings) -> None:
    """Return if every key-encryption key of the database can be had.

    Raises:
        CertorbitError: see `keys.check.open_keyring`.
    """

    async def check() -> None:
        async with open_store(settings) as store:
            keeper = await open_keyring(settings, store=store, clock=CLOCK, chance=CHANCE)
            keeper.close()

    asyncio.run(check())
