"""Users with one HOTP token each, put into a first state without a single call; and their codes, in order."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator

import msgspec

from cluster.state.apply import Record, State
from cluster.state.records import Token, TokenStatus, TokenType, User
from cluster.state.store import TOKENS, USERS
from factors.otp import Algorithm, Otp, code_at

_encode = msgspec.msgpack.Encoder().encode


def user_id(number: int) -> str:
    return f"user{number:06}@example.org"


def token_id(number: int) -> str:
    return f"{number:016}"


def secret_of(number: int) -> bytes:
    return hashlib.sha256(f"secret {number}".encode()).digest()[:20]


def populated(first: State, users: int) -> State:
    """The same state with that many users more."""
    at = first.position
    return State.load(at, sorted([*first.records(), *_records(users, at.stamp_ms)]))


def _records(users: int, now_ms: int) -> Iterator[Record]:
    for number in range(users):
        user = User(enabled=True, created_ms=now_ms, token_ids=(token_id(number),))
        token = Token(
            user_id=user_id(number),
            type=TokenType.HOTP,
            status=TokenStatus.ACTIVE,
            algorithm=Algorithm.SHA1,
            digits=6,
            period_s=0,
            secret=secret_of(number),
            created_ms=now_ms,
        )
        yield USERS.name, user_id(number).encode(), _encode(user)
        yield TOKENS.name, token_id(number).encode(), _encode(token)


class Person:
    """Somebody with a token, who types each of its codes once."""

    __slots__ = ("_counter", "_otp", "user_id")

    def __init__(self, number: int) -> None:
        self.user_id = user_id(number)
        self._otp = Otp(secret_of(number), Algorithm.SHA1, 6)
        self._counter = 0

    def next_code(self) -> str:
        code = code_at(self._otp, self._counter)
        self._counter += 1
        return code


class Crowd:
    """People who take turns: nobody signs in twice at the same time."""

    def __init__(self, people: int) -> None:
        self._idle = deque(Person(number) for number in range(people))

    def take(self) -> Person:
        return self._idle.popleft()

    def put_back(self, person: Person) -> None:
        self._idle.append(person)
