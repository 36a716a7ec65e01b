"""The slow hashes of PINs, beside the event loop: a few threads, and a bounded number of hashes that wait for them.

Argon2id takes tens of milliseconds of a core and releases the interpreter meanwhile. In the loop it would hold up
consensus and every other call, so it runs in threads: one a core, since more would only take turns, and on Linux of a
lower priority than the loop, which has little to do for each hash and must do it in time.
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from cluster.services import limits
from cluster.services.status import CallError, Reason, exhausted
from cluster.state.records import PinHash
from factors import pin as pins
from factors.passcode import Split

T = TypeVar("T")

NICENESS: Final = 5
# Hashed where there is no PIN, so that this costs what a PIN costs.
_NO_PIN: Final = PinHash(bytes(pins.SALT_BYTES), bytes(pins.HASH_BYTES), *pins.COST)


class HashPool:
    """Belongs to one loop. `waiting_max` bounds the hashes that are not done, those that run included."""

    def __init__(self, threads: int | None = None, waiting_max: int | None = None) -> None:
        threads = threads or available_cores()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="pin-hash", initializer=_step_back)
        self._waiting_max = waiting_max or threads * limits.HASHES_PER_THREAD_MAX
        self.waiting = 0

    async def run(self, work: Callable[[], T], hashes: int) -> T:
        """What `work`, which makes so many hashes, returns. A caller that is cancelled takes its work out again.

        Raises:
            CallError: RESOURCE_EXHAUSTED, as many wait as may.
        """
        if self.waiting + hashes > self._waiting_max:
            raise too_many()
        self.waiting += hashes
        future = self._executor.submit(work)
        # Counted until it is done, which is later than its caller is gone: what runs can't be stopped.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _in_loop(loop, self._done, hashes))
        return await asyncio.wrap_future(future)

    def _done(self, hashes: int) -> None:
        self.waiting -= hashes

    def close(self) -> None:
        """What waits is dropped; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def too_many() -> CallError:
    return exhausted(Reason.QUEUE_FULL, "as many PINs wait at this node as may")


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _step_back() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # it is a courtesy only
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[int], None], hashes: int) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
        loop.call_soon_threadsafe(function, hashes)


def check_splits(splits: Sequence[Split], pin: PinHash | None) -> tuple[bool, ...]:
    """Which of them has the right PIN before its code. One hash for each that has a PIN, and one at least."""
    right = tuple(pins.has_shape(split.pin) and check(split.pin, pin) for split in splits)
    if not any(pins.has_shape(split.pin) for split in splits):
        check("", pin)
    return right


def hashes_of(splits: Sequence[Split]) -> int:
    """How many hashes check_splits makes."""
    return max(1, sum(pins.has_shape(split.pin) for split in splits))


def check(typed: str, pin: PinHash | None) -> bool:
    """Whether it is that PIN; the same work where there is none."""
    kept = pin or _NO_PIN
    return pins.is_pin(typed, kept.salt, kept.cost, kept.hash) and pin is not None


def new_hash(typed: str, salt: bytes) -> PinHash:
    return PinHash(salt, pins.hash_pin(typed, salt), *pins.COST)


def is_among(typed: str, before: Sequence[PinHash], number: int) -> bool:
    """Whether it is one of the first `number`; `number` hashes, however many there are."""
    padded = [*before[:number], *([None] * (number - len(before)))]
    return sum(check(typed, each) for each in padded) > 0
