"""Base URLs of APIs in the settings."""

import ipaddress
from urllib.parse import urlsplit


def check_web_address(text: str, *, example: str = "https://api.example.com:6443", shows: str = "credentials") -> str:
    """Accept "" or an https URL without user, query and fragment; http only on this machine. No slash at the end.

    example, shows: for the message: how to write it, and what http would show.

    Raises:
        ValueError: it is none of them.
    """
    if not text:
        return ""
    parts = urlsplit(text)
    _ = parts.port  # raises ValueError for a port that isn't one
    if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"write a URL such as {example}, without user, query or fragment")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"the URL must be https; http would show {shows} to everybody on the way")
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host of a URL is this machine, by its address or as `localhost`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
