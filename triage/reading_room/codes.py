"""The readers' sign-in codes: drawn once, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that reads like a digit, none that makes words."""
GROUPS, LETTERS = 4, 4
MEANT = str.maketrans("OIL", "011")


def new_code() -> str:
    """A code of 80 bits, as `7K3Q-...`."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(LETTERS)) for _ in range(GROUPS))


def hash_of(code: str, salt: bytes) -> str:
    """The code as it is stored; case, hyphens, blanks and look-alike letters do not matter."""
    letters = "".join(c for c in code.upper().translate(MEANT) if c in ALPHABET)
    return hashlib.scrypt(letters.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32).hex()


def reader_with(code: str, hashes: Mapping[str, str], salt: bytes) -> str | None:
    """Whose code it is; takes as long for nobody's."""
    given = hash_of(code[:100], salt)
    found = [reader for reader, stored in hashes.items() if hmac.compare_digest(stored, given)]
    return found[0] if found else None
