"""Brings the journal to disk without holding up the loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.node.offload import Offload
from datastore.journal import Journal, PendingSync

# How long one thread keeps the interpreter while another wants it. At the default of 5 ms a sync that has ended waits
# for a busy loop to let it report: p99 56 ms, against 16 ms at this value.
SWITCH_INTERVAL_S = 0.0005


class JournalSyncing:
    """At most one sync at a time; what is written meanwhile shares the next one (group commit).

    A thread and not the loop itself: a sync takes from 0.1 to 4 ms by disk, during which frames, heartbeats and
    further requests are taken, which then share the next sync. A helper process measured little better.
    """

    def __init__(
        self,
        journal: Journal,
        worker: Offload,
        on_synced: Callable[[], None],
        on_failure: Callable[[Exception], None],
        on_duration: Callable[[float], None] = lambda _seconds: None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._journal = journal
        self._worker = worker
        self._on_synced = on_synced
        self._on_failure = on_failure
        self._on_duration = on_duration
        self._monotonic = monotonic
        self.running = False

    def begin(self) -> None:
        """Start a sync if there is something to write and none is under way."""
        if self.running:
            return
        pending = self._journal.begin_sync()
        if pending is None:
            return
        self.running = True
        self._worker(lambda: self._timed(pending), lambda seconds: self._ended(pending, seconds), self._on_failure)

    def _timed(self, pending: PendingSync) -> float:
        started = self._monotonic()
        pending.run()
        return self._monotonic() - started

    def _ended(self, pending: PendingSync, seconds: float) -> None:
        self.running = False
        self._on_duration(seconds)
        self._journal.end_sync(pending)
        self._on_synced()
