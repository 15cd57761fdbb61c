"""Reads an edge bundle: read_edge_bundle.py s3://bucket/prefix/prod edge.key /etc/edge

Needs the packages obstore and cryptography. Credentials come from the environment (AWS_…, GOOGLE_…).
"""

# ruff: noqa: ANN001, ANN201, INP001 - a program to copy from, short above all

import json
import os
import re
import sys
from hashlib import sha256
from pathlib import Path

import obstore
from cryptography import x509
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from obstore.store import from_url

HPKE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def load(store, item):
    """Return an object whose content is what the manifest says."""
    content = bytes(obstore.get(store, item["path"]).bytes())
    if len(content) != item["size"] or sha256(content).hexdigest() != item["sha256"]:
        raise SystemExit(f"{item['path']} is not what the manifest says")
    return content


def load_bundle(store, tries=3):
    """Return the manifest and its objects by name. An object is only missing if we were slower than the grace time."""
    manifest = json.loads(bytes(obstore.get(store, "manifest.json").bytes()))
    if manifest["format"] != "certorbit-edge-bundle/1":
        raise SystemExit(f"unknown format {manifest['format']!r}")
    try:
        return manifest, {name: load(store, item) for name, item in manifest["objects"].items()}
    except FileNotFoundError:
        if tries <= 1:
            raise
        return load_bundle(store, tries - 1)


def open_key(manifest, certificate, sealed, recipient):
    """Return the certificate's private key as PEM: it opens for this configuration, certificate and version only."""
    place = (manifest["configuration"], certificate["id"], certificate["version"], manifest["recipient_key_id"])
    return HPKE.decrypt(sealed, recipient, info="\n".join(("certorbit-edge-key/1", *place)).encode())


def make_files(manifest, objects, recipient):
    """Return content by file name; nothing is written before all of it is checked."""
    files = {"sites.json": json.dumps(manifest["sites"]).encode()}
    for certificate in manifest["certificates"]:
        name, chain = certificate["id"], objects[certificate["chain"]]
        if not re.fullmatch("[a-z][-a-z0-9]{0,62}", name):
            raise SystemExit(f"{name!r} is no certificate's id")
        files[f"{name}.pem"] = chain
        if certificate["key"]:
            key = open_key(manifest, certificate, objects[certificate["key"]], recipient)
            leaf = x509.load_pem_x509_certificates(chain)[0]
            if load_pem_private_key(key, None).public_key() != leaf.public_key():
                raise SystemExit(f"the key of {name} is another certificate's")
            files[f"{name}.pem"] = key + chain
        if certificate["crl"]:
            files[f"{name}.crl"] = objects[certificate["crl"]]
    return files


def main(url, key_file, folder) -> None:
    recipient = load_pem_private_key(Path(key_file).read_bytes(), None)
    files = make_files(*load_bundle(from_url(url)), recipient)
    os.umask(0o077)
    for name, content in files.items():
        path = Path(folder, name)
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
