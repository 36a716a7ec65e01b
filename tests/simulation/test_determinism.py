"""One seed is one history, byte for byte, whatever the process was before and however it hashes strings."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.history import run_seed

pytestmark = pytest.mark.timeout(900)  # a busy machine takes its time; nothing here is timed
ROOT = Path(__file__).resolve().parents[2]
SEED = 7


def trace_hash_of_another_process(hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.simulation.run", "--seed", str(SEED)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=True)
    return done.stdout.split()[0]


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    run_seed(SEED + 1)  # what ran before in this process must not matter
    here = run_seed(SEED).trace_hash
    assert trace_hash_of_another_process("1") == here
    assert trace_hash_of_another_process("2") == here


def test_another_seed_gives_another_history() -> None:
    assert run_seed(SEED).trace_hash != run_seed(SEED + 1).trace_hash
