"""CRC-32C (Castagnoli, RFC 3720 §B.4), for some tens of bytes at a time."""

from typing import Final

_POLYNOMIAL: Final = 0x82F63B78  # reflected


def crc32c(data: bytes) -> int:
    """Return the checksum. `crc32c(b"123456789") == 0xE3069283`."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF
