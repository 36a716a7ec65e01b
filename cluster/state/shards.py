"""A dict in pieces, of which a frozen copy costs next to nothing.

To copy a dict of 100,000 records takes long enough to be felt by whoever waits for an answer. Here `freeze` hands out
the pieces themselves, and each is copied when it is first written to afterwards: a few hundred records at a time.
Where a key lies depends on Python's hash, which differs from process to process; so nothing may depend on the order.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Final

SHARDS: Final = 256
_MASK: Final = SHARDS - 1

Frozen = tuple[dict[bytes, bytes], ...]


class Shards:
    """Keys and values are bytes. Keys come in no particular order."""

    __slots__ = ("_frozen", "_shards")

    def __init__(self) -> None:
        self._shards: list[dict[bytes, bytes]] = [{} for _ in range(SHARDS)]
        self._frozen = bytearray(SHARDS)  # 1: the piece belongs to a frozen copy too

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._shards)

    def __contains__(self, key: bytes) -> bool:
        return key in self._shards[hash(key) & _MASK]

    def get(self, key: bytes) -> bytes | None:
        return self._shards[hash(key) & _MASK].get(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        return chain.from_iterable(shard.items() for shard in self._shards)

    def put(self, key: bytes, value: bytes) -> None:
        self._own(hash(key) & _MASK)[key] = value

    def discard(self, key: bytes) -> None:
        place = hash(key) & _MASK
        if key in self._shards[place]:
            del self._own(place)[key]

    def freeze(self) -> Frozen:
        """What it holds now, for good."""
        self._frozen = bytearray(b"\1" * SHARDS)
        return tuple(self._shards)

    def _own(self, place: int) -> dict[bytes, bytes]:
        if self._frozen[place]:
            self._frozen[place] = 0
            self._shards[place] = self._shards[place].copy()
        return self._shards[place]
