"""Where the API server is and who we are to it: from the settings, a kubeconfig file, or the cluster we run in."""

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import yaml

from certorbit.errors import CredentialsRefused
from certorbit.target_settings import KubernetesTargetSettings
from certorbit.web_address import check_web_address

# Where the kubelet puts a pod's service account (Kubernetes documentation, "Accessing the API from within a Pod").
_POD_FILES: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Connection:
    """server: without a slash at the end. token_file is read again when a token is refused: tokens are rotated."""

    server: str
    tls: ssl.SSLContext | bool
    token_file: Path | None = None
    token: str = ""

    def __repr__(self) -> str:
        return f"Connection(server={self.server!r})"

    def read_token(self) -> str:
        """Return the bearer token; "" if a client certificate is used. Blocks. Raises CredentialsRefused."""
        if self.token_file is None:
            return self.token
        return _read_file(self.token_file).strip()


def connect(settings: KubernetesTargetSettings) -> Connection:
    """Return how to reach the API server. Blocks: it reads files.

    Raises:
        CredentialsRefused: a file is missing or unusable; the message names it.
    """
    if settings.server:
        return Connection(
            settings.server,
            _trust(_read_file(settings.ca_file) if settings.ca_file else ""),
            token_file=settings.token_file,
        )
    if settings.kubeconfig is not None:
        return _read_kubeconfig(settings.kubeconfig, context=settings.context)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise _refused("this process doesn't run in a cluster. Give server or kubeconfig")
    return Connection(
        f"https://{f'[{host}]' if ':' in host else host}:{port}",
        _trust(_read_file(_POD_FILES / "ca.crt")),
        token_file=_POD_FILES / "token",
    )


def _read_kubeconfig(path: Path, *, context: str) -> Connection:
    try:
        parsed = yaml.safe_load(_read_file(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise _refused(f"kubeconfig {path} is not YAML") from error
    config = parsed if isinstance(parsed, dict) else {}
    name = context or str(config.get("current-context", ""))
    chosen = _named(config, "contexts", name, "context", path=path)
    cluster = _named(config, "clusters", str(chosen.get("cluster", "")), "cluster", path=path)
    user = _named(config, "users", str(chosen.get("user", "")), "user", path=path)
    if "exec" in user or "auth-provider" in user:
        raise _refused(f"kubeconfig {path}: programs that fetch tokens are not run. Use a service account's token")
    if cluster.get("insecure-skip-tls-verify"):
        raise _refused(f"kubeconfig {path}: insecure-skip-tls-verify would hand keys to anybody. Give the CA")
    try:
        server = check_web_address(str(cluster.get("server", "")))
    except ValueError as error:
        raise _refused(f"kubeconfig {path}: server: {error}") from error
    if not server:
        raise _refused(f"kubeconfig {path} names no server")
    tls = _trust(_data_or_file(cluster, "certificate-authority", path=path))
    certificate = _data_or_file(user, "client-certificate", path=path)
    if certificate:
        _show(tls, certificate, _data_or_file(user, "client-key", path=path), path=path)
    token_file = user.get("tokenFile")
    return Connection(
        server,
        tls,
        token_file=path.parent / str(token_file) if token_file else None,
        token=str(user.get("token") or ""),
    )


def _named(config: Mapping[str, Any], plural: str, name: str, singular: str, *, path: Path) -> Mapping[str, Any]:
    items = config.get(plural)
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and item.get("name") == name and isinstance(item.get(singular), dict):
            found: Mapping[str, Any] = item[singular]
            return found
    raise _refused(f"kubeconfig {path} has no {singular} {name!r}")


def _data_or_file(holder: Mapping[str, Any], key: str, *, path: Path) -> str:
    """Return the PEM of `<key>-data` (base64), or of the file that `<key>` names; "" if there is neither."""
    data, file = holder.get(f"{key}-data"), holder.get(key)
    if data:
        try:
            return base64.b64decode(str(data), validate=True).decode("ascii")
        except (binascii.Error, ValueError) as error:
            raise _refused(f"kubeconfig {path}: {key}-data is not PEM in base64") from error
    return _read_file(path.parent / str(file)) if file else ""


def _trust(ca_pem: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca_pem or None)
    except (ssl.SSLError, ValueError) as error:
        raise _refused("the API server's CA is no PEM certificate") from error


def _show(tls: ssl.SSLContext, certificate: str, key: str, *, path: Path) -> None:
    """Let the context show a client certificate. The standard library takes it from files only."""
    with TemporaryDirectory() as folder:  # only its owner can look in
        file = Path(folder, "client.pem")
        file.write_text(certificate + "\n" + key)
        try:
            tls.load_cert_chain(file, password="")
        except (ssl.SSLError, OSError) as error:
            raise _refused(f"kubeconfig {path}: the client certificate and its key can't be used") from error


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8")
    except (OSError, ValueError) as error:
        raise _refused(f"{path} can't be read ({type(error).__name__})") from error


def _refused(reason: str) -> CredentialsRefused:
    return CredentialsRefused(f"Kubernetes: {reason}.", subject="kubernetes")
