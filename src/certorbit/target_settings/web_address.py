"""Base URLs of APIs in the settings."""

import ipaddress
from urllib.parse import urlsplit


def check_web_address(text: str) -> str:
    """Accept "" or an https URL without user, query and fragment; http only on this machine. No slash at the end.

    Raises:
        ValueError: it is none of them.
    """
    if not text:
        return ""
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError for a port that isn't one
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("write a URL such as https://api.example.com:6443, without user, query or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ValueError("the URL must be https; http would show credentials to everybody on the way")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
