"""Every provider of key wrapping with something behind it: moto's server, SoftHSM, stand-ins for what can't be had.

A bench knows how to let its service fail for a moment, how to let it refuse, and how to make a second key.
"""

import atexit
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import boto3
import pkcs11

from certorbit.keyring_settings import AWSKMSSettings, GCPKMSSettings, PKCS11Settings, TransitSettings
from certorbit.keys.aws_kms import AWSWrapping
from certorbit.keys.envelope import KeyEncryptionKey
from certorbit.keys.file_wrapping import FileWrapping
from certorbit.keys.gcp_kms import GCPWrapping
from certorbit.keys.pkcs11_wrapping import PKCS11Wrapping
from certorbit.keys.transit import TransitWrapping
from certorbit.ports.key_wrapping import KeyWrapping
from fakes.clock import FakeChance, FakeClock
from keyrings import google_kms_stand_in, transit_stand_in
from keyrings.google_kms_stand_in import GoogleKMSStandIn
from keyrings.transit_stand_in import TransitStandIn
from programs import require_program
from targets.aws_server import AWSServer, Fault

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
TOKEN_LABEL, PIN = "certorbit", "5678-secret-pin"


@dataclass
class Bench:
    """wrapping: the one under test. other: with another key of the same service. secrets: never in a message.

    fail_once, refuse: what the service does at the next call (`Encrypt` or `Decrypt`). None: it can't.
    """

    wrapping: KeyWrapping
    other: KeyWrapping
    named: str
    secrets: tuple[str, ...] = ()
    fail_once: Callable[[str], None] | None = None
    refuse: Callable[[], None] | None = None
    refusal: str = ""
    clock: FakeClock = field(default_factory=lambda: FakeClock(auto_advance=True))


@asynccontextmanager
async def file_bench() -> AsyncIterator[Bench]:
    keys = [KeyEncryptionKey(bytes([number]) * 32) for number in (1, 2)]
    yield Bench(FileWrapping(keys[:1]), FileWrapping(keys[1:]), keys[0].id)


@asynccontextmanager
async def aws_bench() -> AsyncIterator[Bench]:
    server = AWSServer()
    server.start()
    try:
        client = boto3.client(
            "kms",
            region_name="eu-west-1",
            endpoint_url=server.url,
            aws_access_key_id="id",
            aws_secret_access_key="key",
        )
        arns = [client.create_key()["KeyMetadata"]["Arn"] for _ in range(2)]
        client.close()
        clock = FakeClock(auto_advance=True)
        wrappings = [
            AWSWrapping(
                AWSKMSSettings(
                    key_id=arn,
                    region="eu-west-1",
                    access_key_id="id",
                    secret_access_key="secret-of-the-account",
                    endpoint_url=server.url,
                ),
                clock=clock,
                chance=FakeChance(),
            )
            for arn in arns
        ]

        yield Bench(
            *wrappings,
            named=arns[0],
            secrets=("secret-of-the-account",),
            fail_once=lambda verb: server.faults.append(Fault(f"tag:{verb}", "ThrottlingException")),
            refuse=lambda: server.faults.append(Fault("tag:Encrypt", "AccessDeniedException")),
            refusal="AccessDeniedException: as the test wants it. Check that the key is enabled",
            clock=clock,
        )
    finally:
        server.stop()


@asynccontextmanager
async def google_bench() -> AsyncIterator[Bench]:
    async with GoogleKMSStandIn() as service:
        clock = FakeClock(auto_advance=True)

        def make(key: str) -> GCPWrapping:
            settings = GCPKMSSettings(key=key, token=google_kms_stand_in.TOKEN, endpoint_url=service.url)
            return GCPWrapping(settings, clock=clock, chance=FakeChance())

        yield Bench(
            make(google_kms_stand_in.KEY),
            make(google_kms_stand_in.KEY + "-other"),
            f"{google_kms_stand_in.KEY}/cryptoKeyVersions/3",
            secrets=(google_kms_stand_in.TOKEN,),
            fail_once=lambda _: service.failing.append((503, "try again")),
            refuse=lambda: service.failing.append((403, "Permission 'cloudkms.use' denied.")),
            refusal="403: Permission 'cloudkms.use' denied. Check that the key is enabled",
            clock=clock,
        )


@asynccontextmanager
async def transit_bench(*, by_role: bool = False) -> AsyncIterator[Bench]:
    async with TransitStandIn() as service:
        clock = FakeClock(auto_advance=True)
        sign_in = (
            {"role_id": transit_stand_in.ROLE_ID, "secret_id": transit_stand_in.SECRET_ID}
            if by_role
            else {"token": transit_stand_in.TOKEN}
        )

        def make(key: str) -> TransitWrapping:
            settings = TransitSettings(url=service.url, key=key, namespace=transit_stand_in.NAMESPACE, **sign_in)
            return TransitWrapping(settings, clock=clock, chance=FakeChance())

        yield Bench(
            make("certorbit"),
            make("other"),
            "transit/certorbit:v1",
            secrets=(transit_stand_in.TOKEN, transit_stand_in.SECRET_ID),
            fail_once=lambda _: service.failing.append((503, ["Vault is sealed"])),
            refuse=lambda: service.failing.append((403, ["permission denied"])),
            refusal="403: permission denied. Check the key's name",
            clock=clock,
        )


@asynccontextmanager
async def pkcs11_bench() -> AsyncIterator[Bench]:
    make_soft_hsm()

    def make(key_label: str) -> PKCS11Wrapping:
        return PKCS11Wrapping(PKCS11Settings(module=MODULE, token_label=TOKEN_LABEL, key_label=key_label, pin=PIN))

    yield Bench(make("wrapping"), make("other"), f"{TOKEN_LABEL}/wrapping", secrets=(PIN,))


@cache
def make_soft_hsm() -> None:
    """Make one token for the whole run: a module is initialised once per process."""
    program = require_program("softhsm2-util")
    folder = Path(mkdtemp(prefix="softhsm-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = [program, "--init-token", "--free", "--label", TOKEN_LABEL, "--so-pin", "12345678", "--pin", PIN]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    token = pkcs11.lib(str(MODULE)).get_token(token_label=TOKEN_LABEL)
    with token.open(user_pin=PIN, rw=True) as session:
        for label in ("wrapping", "other"):
            session.generate_key(pkcs11.KeyType.AES, 256, label=label, store=True)


BENCHES = {
    "file": file_bench,
    "aws-kms": aws_bench,
    "gcp-kms": google_bench,
    "transit": transit_bench,
    "transit by AppRole": lambda: transit_bench(by_role=True),
    "pkcs11": pkcs11_bench,
}
