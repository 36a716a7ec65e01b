"""Work that would hold up the loop, in one thread of its own; what becomes of it comes back into the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """Runs `work` elsewhere, then `then` with its result in the owner's thread; `failed` with what it raised."""

    def __call__(
        self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None: ...


class WorkerThread:
    """One thread, in order of submission. Submitted work is always finished, its results dropped after `close`.

    Not an executor: its futures and locks cost more than all else between a sync and what waits for it.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __call__(self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        if self._closed:
            return

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the owner is told
                self._back(failed, error)
            else:
                self._back(then, result)

        self._work.put(run)

    def _run(self) -> None:
        while (run := self._work.get()) is not None:
            run()

    def _back(self, callback: Callable[[T], None], outcome: T) -> None:
        if not self._closed:
            self._loop.call_soon_threadsafe(callback, outcome)

    def close(self, *, wait: bool) -> None:
        """`wait=False` for an end after a storage failure, where a write may never return."""
        self._closed = True
        self._work.put(None)
        if wait:
            self._thread.join()
