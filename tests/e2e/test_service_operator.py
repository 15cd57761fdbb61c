"""The operator's commands as programs against a real service with the built-in CA."""

import json
import os
import subprocess
import sys
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from e2e.conftest import NewDeployment
from e2e.service import API_KEY, Client, wait_until

NATIVE = "/api/certorbit/v1/configs/prod/certificates"


def certorbit(client: Client, *arguments: str) -> Any:
    """Run a command as an operator does, and return the JSON that it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTORBIT_")}
    environment |= {"CERTORBIT_URL": client.url, "CERTORBIT_API_KEY": API_KEY}
    ended = subprocess.run(
        [sys.executable, "-m", "certorbit", *arguments, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def wait_done(client: Client, operation_id: str) -> None:
    wait_until(lambda: client.operation(operation_id)["state"] == "succeeded", what=f"{operation_id} succeeded")


def leaf_of(client: Client, entry_id: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(client.certificate(entry_id).json["cert_body"].encode())


def public_key(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_certificate_is_renewed_revoked_replaced_and_rolled_back(deploy: NewDeployment) -> None:
    client = deploy({"CERTORBIT_ISSUANCE__REUSE_KEY": "true"}).serve().client
    assert client.generate("shop", "shop.example.com").status == 201
    client.wait_issued("shop")
    first = leaf_of(client, "shop")

    wait_done(client, certorbit(client, "renew", "prod", "shop")["operation"])
    renewed = leaf_of(client, "shop")
    assert renewed.serial_number != first.serial_number
    assert public_key(renewed) == public_key(first)

    assert certorbit(client, "renewal", "prod", "shop")["operation"] is None
    assert certorbit(client, "simulate", "--days", "366")["is_complete"]

    revoked = certorbit(client, "revoke", "prod", "shop", "--reason", "key-compromise")
    wait_done(client, revoked["operation"])
    assert client.operation(revoked["operation"])["kind"] == "rekey"
    rekeyed = leaf_of(client, "shop")
    assert public_key(rekeyed) != public_key(first)
    crl = x509.load_der_x509_crl(client.get("/crl/internal.crl").body)
    found = crl.get_revoked_certificate_by_serial_number(renewed.serial_number)
    assert found is not None
    assert found.extensions.get_extension_for_class(x509.CRLReason).value.reason is x509.ReasonFlags.key_compromise

    versions = certorbit(client, "versions", "prod", "shop")["items"]
    assert [item["serial"] for item in versions] == [
        format(leaf.serial_number, "x") for leaf in (rekeyed, renewed, first)
    ]
    certorbit(client, "rollback", "prod", "shop", versions[2]["id"])
    assert leaf_of(client, "shop") == first
    assert certorbit(client, "resume", "prod", "shop")["paused"] is False
