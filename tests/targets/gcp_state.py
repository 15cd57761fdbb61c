"""What the GCP stand-in holds, and how Google would serve it; resources are plain JSON objects."""

import fnmatch
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

PROJECT = "example-project"
NUMBER = "123456789012"
GLOBAL = f"projects/{PROJECT}/global"
LOCATION = f"projects/{PROJECT}/locations/global"
SELF = "https://www.googleapis.com/compute/v1/"
Resource = dict[str, Any]


@dataclass
class GoogleState:
    """compute: by path (`projects/…`). manager: by resource name. operations: by path, with the polls they still need."""

    compute: dict[str, Resource] = field(default_factory=dict)
    manager: dict[str, Resource] = field(default_factory=dict)
    operations: dict[str, Resource] = field(default_factory=dict)
    rights: set[str] | None = None  # None: all

    def add_certificate(self, name: str, chain_pem: str, *, scope: str = GLOBAL, description: str = "") -> str:
        path = f"{scope}/sslCertificates/{name}"
        self.compute[path] = {
            "kind": "compute#sslCertificate",
            "name": name,
            "description": description,
            "selfLink": SELF + path,
            "type": "SELF_MANAGED",
            "certificate": chain_pem,
            "selfManaged": {"certificate": chain_pem},
        }
        return SELF + path

    def add_proxy(
        self,
        name: str,
        certificates: list[str],
        *,
        address: str,
        kind: str = "targetHttpsProxies",
        scope: str = GLOBAL,
        port: int = 443,
        **more: Any,
    ) -> str:
        path = f"{scope}/{kind}/{name}"
        self.compute[path] = {"name": name, "selfLink": SELF + path, "sslCertificates": certificates, **more}
        self.stamp(path)
        if address:
            self.add_rule(f"{name}-{port}", target=path, address=address, port=port, scope=scope)
        return path

    def add_rule(self, name: str, *, target: str, address: str, port: int, scope: str = GLOBAL) -> None:
        self.compute[f"{scope}/forwardingRules/{name}"] = {
            "name": name,
            "selfLink": f"{SELF}{scope}/forwardingRules/{name}",
            "target": f"https://compute.googleapis.com/compute/v1/{target}",
            "IPAddress": address,
            "portRange": f"{port}-{port}",
        }

    def stamp(self, path: str) -> None:
        """Give an HTTPS proxy the fingerprint of its content; SSL proxies have none."""
        item = self.compute[path]
        if "/targetHttpsProxies/" in path:
            content = json.dumps({key: value for key, value in item.items() if key != "fingerprint"}, sort_keys=True)
            item["fingerprint"] = hashlib.sha256(content.encode()).hexdigest()[:12]

    def add_map(self, name: str, *, addresses: list[str], ports: list[int] | None = None) -> str:
        path = f"{LOCATION}/certificateMaps/{name}"
        configs = [{"ipAddress": address, "ports": ports or [443]} for address in addresses]
        proxy = f"//compute.googleapis.com/{GLOBAL}/targetHttpsProxies/{name}"
        self.manager[path] = {"name": path, "gclbTargets": [{"targetHttpsProxy": proxy, "ipConfigs": configs}]}
        return path

    def add_managed(self, name: str, chain_pem: str, *, labels: Resource | None = None) -> str:
        path = f"{LOCATION}/certificates/{name}"
        self.manager[path] = {"name": path, "labels": labels or {}, "selfManaged": {}} | describe_pem(chain_pem)
        return path

    def add_entry(self, map_path: str, name: str, certificates: list[str], *, hostname: str = "") -> str:
        path = f"{map_path}/certificateMapEntries/{name}"
        served = {"hostname": hostname} if hostname else {"matcher": "PRIMARY"}
        self.manager[path] = {"name": path, "certificates": certificates, "state": "ACTIVE", **served}
        return path

    def served_by_proxy(self, path: str, server_name: str) -> str:
        """Return the leaf's fingerprint: the first certificate whose names fit, else the first one."""
        links = [link.removeprefix(SELF) for link in self.compute[path]["sslCertificates"]]
        leaves = [leaf_of(self.compute[link]["certificate"]) for link in links]
        return fingerprint(next((leaf for leaf in leaves if fits(leaf, server_name)), leaves[0]))

    def served_by_map(self, map_path: str, server_name: str) -> str:
        """Return the leaf's fingerprint by the map's entries: exact name, wildcard, primary."""
        entries = [item for name, item in self.manager.items() if name.startswith(f"{map_path}/certificateMapEntries/")]
        by_name = {entry.get("hostname", ""): entry for entry in entries}
        wildcard = "*." + server_name.partition(".")[2]
        entry = by_name.get(server_name) or by_name.get(wildcard) or by_name.get("")
        return fingerprint(leaf_of(self.manager[entry["certificates"][0]]["pemCertificate"])) if entry else ""


def describe_pem(chain_pem: str) -> Resource:
    """What Certificate Manager shows of a certificate that was given to it."""
    names = leaf_of(chain_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {"pemCertificate": chain_pem, "sanDnsnames": names.get_values_for_type(x509.DNSName)}


def leaf_of(chain_pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain_pem.encode())[0]


def fingerprint(leaf: x509.Certificate) -> str:
    return hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()


def fits(leaf: x509.Certificate, server_name: str) -> bool:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return any(fnmatch.fnmatch(server_name, name) for name in names.get_values_for_type(x509.DNSName))


def is_pair(chain_pem: str, key_pem: str) -> bool:
    """Whether the key is the leaf's."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = load_pem_private_key(key_pem.encode(), None)
    return key.public_key().public_bytes(*form) == leaf_of(chain_pem).public_key().public_bytes(*form)
