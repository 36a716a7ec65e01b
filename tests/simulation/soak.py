"""Runs fresh seeds, one process a core: `python -m tests.simulation.soak --seconds N [--processes N] [--seed N]`.

Prints how many histories, steps, operations and faults that was, and each failure with the command that replays it;
exits 1 on any. Fresh means: from a random seed on, which is printed.
"""

# ruff: noqa: T201

import argparse
import os
import secrets
import sys
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.queues import Queue
from queue import Empty

from tests.simulation.faults import FAULTS
from tests.simulation.history import Outcome, run_seed
from tests.simulation.run import report

SEEDS = 2**40


def _work(first: int, stride: int, seconds: float, outcomes: "Queue[Outcome | None]") -> None:
    """One process: every so-many-th seed, one after the other, until the time is over."""
    until = time.monotonic() + seconds
    seed = first
    while time.monotonic() < until:
        outcomes.put(run_seed(seed))
        seed += stride
    outcomes.put(None)


def soak(seconds: float, processes: int, first: int) -> list[Outcome]:
    """Runs histories until the time is over; tells of each failure at once, and returns all outcomes."""
    context = get_context("spawn")  # so that each process begins as a fresh program does
    queue: Queue[Outcome | None] = context.Queue()
    workers = [
        context.Process(target=_work, args=(first + number, processes, seconds, queue)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    outcomes: list[Outcome] = []
    working = processes
    while working:
        try:
            outcome = queue.get(timeout=1.0)
        except Empty:
            if any(worker.exitcode for worker in workers):
                raise RuntimeError("a process of the soak died; run it again with --processes 1") from None
            continue
        if outcome is None:
            working -= 1
            continue
        outcomes.append(outcome)
        if outcome.failure is not None:
            print(report(outcome), flush=True)
    for worker in workers:
        worker.join()
    return outcomes


def summary(outcomes: list[Outcome]) -> str:
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    faults = ", ".join(f"{name} {counts[name]}" for name in FAULTS if counts[name])
    return (
        f"{len(outcomes)} histories, {sum(outcome.steps for outcome in outcomes)} steps, "
        f"{counts['calls']} operations, {counts['answers']} answers, {counts['accepted']} accepted, "
        f"{counts['applied']} entries applied, {counts['installs']} snapshots installed, "
        f"{sum(outcome.faults for outcome in outcomes)} faults ({faults})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=None, help="the first seed; a random one if absent")
    options = parser.parse_args()
    first = secrets.randbelow(SEEDS) if options.seed is None else options.seed
    print(f"seeds from {first} on, {options.processes} processes, {options.seconds:.0f} s", flush=True)
    outcomes = soak(options.seconds, options.processes, first)
    print(summary(outcomes))
    failed = [outcome for outcome in outcomes if outcome.failure is not None]
    for outcome in failed:
        print(f"FAILED {outcome.failure}: {outcome.replay_command}")
    print(f"{len(failed)} of {len(outcomes)} histories failed")
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
