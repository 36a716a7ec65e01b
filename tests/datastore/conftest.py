"""One node's disk in memory, and keys."""

import random
from collections.abc import Callable

import pytest

from datastore.keys import KeyRing, new_kek
from tests.simulation.memory_files import MemoryFiles


@pytest.fixture
def files() -> MemoryFiles:
    files = MemoryFiles(random.Random(1))
    files.make_directory("/node")
    return files


@pytest.fixture
def randbytes() -> Callable[[int], bytes]:
    return random.Random(2).randbytes


@pytest.fixture
def keys(randbytes: Callable[[int], bytes]) -> KeyRing:
    return KeyRing.generate(new_kek(randbytes), randbytes)
