"""When a wall clock is believed."""

from __future__ import annotations

import pytest

from cluster.node.clock import AHEAD_MAX_MS, NodeClock, check_lone_start
from cluster.node.errors import ClockError


class Hands:
    """Two clocks under the test's hand."""

    def __init__(self) -> None:
        self.monotonic_s = 1_000.0
        self.wall_ms = 1_790_000_000_000

    def clock(self) -> NodeClock:
        return NodeClock(lambda: self.monotonic_s, lambda: self.wall_ms)

    def pass_time(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.wall_ms += int(seconds * 1000)


def test_clocks_that_go_together_are_trusted() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.pass_time(1_000_000)
    hands.wall_ms += 5_000
    assert clock.trusted()


@pytest.mark.parametrize("jump_ms", [5_001, -5_001, 3_600_000, -86_400_000])
def test_a_jump_is_noticed_and_not_forgotten_when_it_is_undone(jump_ms: int) -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall_ms += jump_ms
    assert not clock.trusted()
    hands.wall_ms -= jump_ms
    assert not clock.trusted()


def distrusted() -> tuple[Hands, NodeClock]:
    hands = Hands()
    clock = hands.clock()
    hands.wall_ms += 60_000
    assert not clock.trusted()
    return hands, clock


@pytest.mark.parametrize(
    ("offsets", "voters", "restored"),
    [
        ([0, None], 3, True),
        ([2_000, -60_000], 3, True),
        ([2_001, None], 3, False),
        ([None, None], 3, False),
        ([0, None, None, None], 5, False),
        ([0, 100, None, None], 5, True),
        ([None], 2, False),
        ([0], 2, True),
        ([], 1, False),
    ],
)
def test_agreement_with_a_majority_restores_the_trust(offsets: list[int | None], voters: int, restored: bool) -> None:
    _, clock = distrusted()
    assert clock.agree(offsets, voters) is restored
    assert clock.trusted() is restored


def test_after_agreement_the_next_jump_is_noticed_again() -> None:
    hands, clock = distrusted()
    assert clock.agree([0, 0], 3)
    hands.pass_time(10)
    assert clock.trusted()
    hands.wall_ms -= 60_000
    assert not clock.trusted()


def test_an_operator_can_accept_the_clock() -> None:
    _, clock = distrusted()
    clock.accept()
    assert clock.trusted()


STAMP = 1_790_000_000_000


@pytest.mark.parametrize("wall_ms", [STAMP, STAMP - 2_000, STAMP + AHEAD_MAX_MS])
def test_a_lone_node_starts_with_a_clock_that_fits_its_data(wall_ms: int) -> None:
    check_lone_start(STAMP, wall_ms, accepted=False)


@pytest.mark.parametrize(
    ("wall_ms", "words"), [(STAMP - 60_000, "60 s behind"), (STAMP + AHEAD_MAX_MS + 1, "2592000 s ahead of")]
)
def test_a_lone_node_asks_where_it_does_not(wall_ms: int, words: str) -> None:
    with pytest.raises(ClockError, match=f"{words}.*--accept-clock"):
        check_lone_start(STAMP, wall_ms, accepted=False)
    check_lone_start(STAMP, wall_ms, accepted=True)
