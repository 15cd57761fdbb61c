"""Which names a zone covers."""


def is_in_zone(name: str, *, zone: str) -> bool:
    """Return whether a DNS name is the zone or under it. zone: "" covers every name."""
    return not zone or name == zone or name.endswith("." + zone)
