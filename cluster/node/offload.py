"""Work that would hold up the loop, in one thread of its own; what becomes of it comes back into the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Offload(Protocol):
    """Runs `work` elsewhere, then `then` with its result in the owner's thread; `failed` with what it raised."""

    def __call__(
        self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None: ...


class WorkerThread:
    """One thread, in order of submission. Submitted work is always finished, its results dropped after `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._closed = False

    def __call__(self, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        if self._closed:
            return

        def back(future: Future[T]) -> None:
            if not self._closed:
                self._loop.call_soon_threadsafe(settle, future)

        def settle(future: Future[T]) -> None:
            try:
                then(future.result())
            except Exception as error:  # noqa: BLE001 - what goes wrong with a result is as bad as no result
                failed(error)

        self._executor.submit(work).add_done_callback(back)

    def close(self, *, wait: bool) -> None:
        """`wait=False` for an end after a storage failure, where a write may never return."""
        self._closed = True
        self._executor.shutdown(wait=wait, cancel_futures=True)
