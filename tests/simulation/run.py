"""Runs the history of one seed, or of several: `python -m tests.simulation.run --seed N [--count N] [--nodes N]`."""

# ruff: noqa: T201

import argparse
import sys
import time

from tests.simulation.history import Outcome, run_seed


def report(outcome: Outcome) -> str:
    """A failure with its trimmed trace and the command that replays it."""
    return (
        f"{outcome.trace}\n\nseed {outcome.seed}, step {outcome.steps}: {outcome.failure}\n"
        f"conditions: {outcome.odds}\nreplay: {outcome.replay_command}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=1, help="so many seeds, from --seed on")
    parser.add_argument("--nodes", type=int, choices=(1, 3, 5))
    parser.add_argument("-q", "--quiet", action="store_true", help="one line a seed, no traces")
    options = parser.parse_args()
    failed = False
    for seed in range(options.seed, options.seed + options.count):
        began = time.perf_counter()
        outcome = run_seed(seed, nodes=options.nodes)
        pace = outcome.steps / (time.perf_counter() - began)
        failed = failed or outcome.failure is not None
        if outcome.failure is not None and not options.quiet:
            print(report(outcome))
        print(
            f"{outcome.trace_hash} seed {seed}: {outcome.odds.nodes} nodes, {outcome.steps} steps, {pace:.0f}/s, "
            f"{outcome.faults} faults, {outcome.counts.get('answers', 0)} answers: {outcome.failure or 'held'}",
            flush=True,
        )
        if options.count == 1:
            print(outcome.counts)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
