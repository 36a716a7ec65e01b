"""The running digest: a SHA-256 chain over every entry and its results, compared between nodes at the same index."""

from collections.abc import Sequence
from hashlib import sha256
from struct import Struct
from typing import Final

DIGEST_BYTES: Final = 32
_HEAD: Final = Struct(">QQQQ")
_LENGTH: Final = Struct(">Q")


def extend(
    previous: bytes, index: int, term: int, stamp_ms: int, group_payloads: Sequence[bytes], packed_results: bytes
) -> bytes:
    """The digest after an entry. Each part is of fixed length or preceded by its length: none can pose as another."""
    chain = sha256(previous)
    chain.update(_HEAD.pack(index, term, stamp_ms, len(group_payloads)))
    for payload in group_payloads:
        chain.update(_LENGTH.pack(len(payload)))
        chain.update(payload)
    chain.update(packed_results)
    return chain.digest()
