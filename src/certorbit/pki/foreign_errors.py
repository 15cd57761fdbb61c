"""What `cryptography` raises on hostile or damaged input: its documentation names some, fuzzing showed the rest."""

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.x509 import DuplicateExtension, InvalidVersion, UnsupportedGeneralNameType

UNREADABLE = (
    ValueError,
    TypeError,  # a BIT STRING where a name has text
    KeyError,  # a string type that it doesn't know, inside a directory name
    UnsupportedAlgorithm,
    InternalError,  # OpenSSL's word that nobody has translated: an EC scalar that is longer than its curve
    DuplicateExtension,
    InvalidVersion,
    UnsupportedGeneralNameType,
)
