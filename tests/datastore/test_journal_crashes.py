"""The journal on a disk that loses what was not synced (hazards 3, 4, 5, 7, 18)."""

import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datastore.journal_history import History

SHARE = st.floats(0, 1)
ACTIONS = ["run_and_end", "remove_segments", "open"]
ENDS = ["crash", "kill"]
STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 900)),
    st.tuples(st.just("append"), st.integers(0, 60)),
    st.tuples(st.just("truncate"), SHARE),
    st.tuples(st.just("set_term"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("install"), st.integers(-4, 9)),
    st.tuples(st.just("compact"), SHARE),
    st.tuples(st.just("remove_segments")),
    st.tuples(st.just("begin")),
    st.tuples(st.just("run_and_end")),
    st.tuples(st.just("run_and_end")),
    st.tuples(st.just("die"), st.integers(0, 14), st.sampled_from(ACTIONS), st.sampled_from(ENDS)),
    st.tuples(st.just("kill")),
    st.tuples(st.just("fail_sync")),
)


ODDS = {
    "append": 40,
    "begin": 15,
    "run_and_end": 15,
    "truncate": 4,
    "set_term": 5,
    "install": 1,
    "compact": 4,
    "remove_segments": 4,
    "die": 6,
    "kill": 2,
    "fail_sync": 1,
}


class SpyingAESGCM:
    """Notes every pair of key and nonce that seals something."""

    used: set[tuple[bytes, bytes]]

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESGCM(key)
        self.decrypt = self._cipher.decrypt

    def encrypt(self, nonce: bytes, data: bytes, context: bytes) -> bytes:
        assert (self._key, nonce) not in self.used, "a position was sealed twice under one key"
        self.used.add((self._key, nonce))
        return self._cipher.encrypt(nonce, data, context)


def play(seed: int, steps: list[tuple[Any, ...]]) -> History:
    SpyingAESGCM.used = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datastore.segment.AESGCM", SpyingAESGCM)
        history = History(seed)
        for name, *arguments in steps:
            take(history, name, arguments)
            history.check_memory()
        history.restart(history.files.crash)
        history.restart(history.files.kill)
    return history


def take(history: History, name: str, arguments: list[Any]) -> None:
    if name == "die":
        operations, action, end = arguments
        ending = getattr(history.files, end)
        if action == "open":
            history.journal.close()
            history.die_in(operations, lambda: history.open().close(), ending)
        else:
            if action == "run_and_end":
                history.begin()
            history.die_in(operations, getattr(history, action), ending)
    elif name == "kill":
        history.restart(history.files.kill)
    else:
        getattr(history, name)(*arguments)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 1 << 32), steps=st.lists(STEP, max_size=40))
async def test_hazards_03_04_07_a_crash_at_any_point_leaves_what_was_synced_and_nothing_invented(
    seed: int, steps: list[tuple[Any, ...]]
) -> None:
    play(seed, steps)


@pytest.mark.parametrize("seed", range(60))
async def test_long_histories(seed: int) -> None:
    chance = random.Random(seed)
    steps: list[tuple[Any, ...]] = []
    for _ in range(250):
        name = chance.choices(list(ODDS), list(ODDS.values()))[0]
        steps.append((name, *arguments_of(name, chance)))
    play(seed, steps)


def arguments_of(name: str, chance: random.Random) -> list[Any]:
    match name:
        case "append":
            return [chance.choice([0, 20, 300, 1_500])]
        case "truncate" | "compact":
            return [chance.random()]
        case "set_term":
            return [chance.randint(0, 2), chance.random() < 0.5]
        case "install":
            return [chance.randint(-3, 8)]
        case "die":
            return [chance.randint(0, 12), chance.choice(ACTIONS), chance.choice(ENDS)]
    return []


async def test_one_seed_is_one_history() -> None:
    steps: list[tuple[Any, ...]] = [("append", 50), ("begin",), ("append", 70), ("die", 2, "run_and_end", "crash")] * 5
    assert play(7, steps).files.snapshot() == play(7, steps).files.snapshot()
