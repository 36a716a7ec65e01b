"""The memory of requests: one answer for a request id, for as long as it is kept.

A request is known by a keyed digest of (client identity, request id); what it asked by a keyed digest of kind and
contents. Both are keyed since contents hold passcodes, which a plain digest would give away. The answer is kept in
its shortest form. Requests lie in generations of GENERATION_MS of log time: only the newest is ever written to, so a
snapshot copies that one alone, and forgetting drops a whole generation.

Nothing is ever forgotten early. A client may use what is free; above half of the bound it is held to the bound
divided by the clients of the window, and at the bound every new request is refused.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from cluster.state.errors import DamagedState
from cluster.state.results import RESULT_REQUEST_ID_REUSED, Code, Reason, Result

GENERATION_MS: Final = 5_000
KEY_BYTES: Final = 15  # with CPython's 33 bytes around it exactly 48; 120 bits let no two requests meet
CONTENTS_BYTES: Final = 12  # of a keyed digest: whoever wants two contents to meet has to guess 96 bits online
REQUESTS: Final = "requests"  # generation (8 bytes), key -> contents digest, code, reason, detail
CLIENTS: Final = "request_clients"  # generation (8 bytes), client identity -> number of requests (8 bytes)
_NUMBER_BYTES: Final = 8
_HEAD_BYTES: Final = CONTENTS_BYTES + 2


class Generation(NamedTuple):
    """Requests of one stretch of log time, and how many of them each client made."""

    requests: dict[bytes, bytes]
    clients: dict[str, int]


class RequestMemory:
    """See the module. Equal logs give equal memories, over snapshots too: all of it is in the records."""

    __slots__ = ("_clients", "_contents_hash", "_count", "_generations", "_key_hash")

    def __init__(self, key: bytes) -> None:
        # The key's block is hashed once. The two digest lengths keep the two uses apart.
        self._key_hash = blake2b(digest_size=KEY_BYTES, key=key)
        self._contents_hash = blake2b(digest_size=CONTENTS_BYTES, key=key)
        self._generations: dict[int, Generation] = {}  # by number, rising
        self._clients: dict[str, int] = {}  # sums over the generations; never 0
        self._count = 0

    @property
    def count(self) -> int:
        return self._count

    def identify(self, client: str, request_id: str) -> bytes:
        """The key under which a request is remembered. `request_id` is ASCII, so that the two can't run together."""
        known = self._key_hash.copy()
        known.update(f"{len(request_id)} {request_id}{client}".encode())
        return known.digest()

    def digest(self, kind: int, contents: bytes) -> bytes:
        """What a request asks, shortened."""
        asked = self._contents_hash.copy()
        asked.update(b"%d " % kind + contents)
        return asked.digest()

    def advance(self, now_ms: int, kept_ms: int) -> None:
        """Forget generations of which every request is at least `kept_ms` old."""
        expired = [number for number in self._generations if (number + 1) * GENERATION_MS + kept_ms <= now_ms]
        for number in expired:
            generation = self._generations.pop(number)
            self._count -= len(generation.requests)
            for client, count in generation.clients.items():
                self._add(client, -count)

    def find(self, key: bytes, *contents: bytes) -> Result | None:
        """The first answer to this request; REQUEST_ID_REUSED where it asked something else; None if it is new.

        `contents` are the digests that it may be remembered with."""
        for generation in reversed(self._generations.values()):
            remembered = generation.requests.get(key)
            if remembered is not None:
                return _answer(remembered) if remembered[:CONTENTS_BYTES] in contents else RESULT_REQUEST_ID_REUSED
        return None

    def admits(self, client: str, most: int) -> bool:
        """Whether one more request of this client may be remembered, where `most` is the bound for all."""
        if self._count >= most:
            return False
        if 2 * self._count < most:
            return True
        own = self._clients.get(client, 0)
        active = len(self._clients) + (own == 0)
        return own < most // active

    def remember(self, now_ms: int, client: str, key: bytes, contents: bytes, result: Result) -> None:
        """Keep the answer to a new request. `now_ms` never goes back."""
        number = now_ms // GENERATION_MS
        generation = self._generations.get(number)
        if generation is None:
            generation = self._generations[number] = Generation({}, {})
        detail = result.token_id if result.code is Code.OK else result.field
        generation.requests[key] = contents + bytes((result.code, result.reason)) + detail.encode()
        generation.clients[client] = generation.clients.get(client, 0) + 1
        self._add(client, 1)
        self._count += 1

    def _add(self, client: str, count: int) -> None:
        total = self._clients.get(client, 0) + count
        if total:
            self._clients[client] = total
        else:
            del self._clients[client]

    def copy(self) -> dict[int, Generation]:
        """The generations as they are now: the newest copied, the others, which never change again, shared."""
        copied = dict(self._generations)
        if copied:
            newest = max(copied)
            copied[newest] = Generation(copied[newest].requests.copy(), copied[newest].clients.copy())
        return copied

    def insert(self, table: str, key: bytes, packed: bytes) -> None:
        """Take one stored record; generations in rising order. Raises DamagedState."""
        number = int.from_bytes(key[:_NUMBER_BYTES], "big")
        rest = key[_NUMBER_BYTES:]
        generation = self._generations.setdefault(number, Generation({}, {}))
        if table == CLIENTS:
            client = _client(rest)
            count = int.from_bytes(packed, "big")
            if len(packed) != _NUMBER_BYTES or not count or client in generation.clients:
                raise DamagedState(table, "a record is of the wrong shape")
            generation.clients[client] = count
            self._add(client, count)
        else:
            if len(rest) != KEY_BYTES or len(packed) < _HEAD_BYTES or rest in generation.requests:
                raise DamagedState(table, "a record is of the wrong shape")
            try:
                _answer(packed)
            except ValueError:
                raise DamagedState(table, "a record is of the wrong shape") from None
            generation.requests[rest] = packed
            self._count += 1

    def check(self) -> None:
        """Whether what was inserted hangs together, and put the generations in order. Raises DamagedState."""
        self._generations = dict(sorted(self._generations.items()))
        for generation in self._generations.values():
            if sum(generation.clients.values()) != len(generation.requests):
                raise DamagedState(CLIENTS, "the counts are not those of the requests")


def records_of(generations: dict[int, Generation], table: str) -> Iterator[tuple[str, bytes, bytes]]:
    """The records of one of the two tables, sorted by key."""
    for number, generation in sorted(generations.items()):
        prefix = number.to_bytes(_NUMBER_BYTES, "big")
        if table == REQUESTS:
            for key in sorted(generation.requests):
                yield table, prefix + key, generation.requests[key]
        else:
            for name in sorted(client.encode() for client in generation.clients):
                count = generation.clients[name.decode()]
                yield table, prefix + name, count.to_bytes(_NUMBER_BYTES, "big")


def _answer(remembered: bytes) -> Result:
    code = Code(remembered[CONTENTS_BYTES])
    reason = Reason(remembered[CONTENTS_BYTES + 1])
    detail = remembered[_HEAD_BYTES:].decode()
    return Result(code, reason, detail) if code is Code.OK else Result(code, reason, field=detail)


def _client(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise DamagedState(CLIENTS, "a record is of the wrong shape") from None
