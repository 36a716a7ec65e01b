"""Whom an event concerns, without saying so: a keyed hash of the user's name, the same on every node.

The key is derived from the cluster's own (REQUEST_KEY in the state): without the state nobody can try names out.
"""

from hashlib import blake2b
from typing import Final

PSEUDONYM_BYTES: Final = 16
_PURPOSE: Final = b"watchword events"  # sets this key apart from other uses of the same secret


class Pseudonyms:
    """`of` gives 32 hexadecimal digits; may be used in any thread."""

    __slots__ = ("_hash",)

    def __init__(self, request_key: bytes) -> None:
        derived = blake2b(_PURPOSE, key=request_key, digest_size=32).digest()
        self._hash = blake2b(key=derived, digest_size=PSEUDONYM_BYTES)

    def of(self, user_id: str) -> str:
        return self.digest(user_id.encode()).hex()

    def digest(self, user_key: bytes) -> bytes:
        """The same as bytes, of a key in the table of users."""
        concerned = self._hash.copy()
        concerned.update(user_key)
        return concerned.digest()
