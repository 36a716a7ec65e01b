import pytest
from hypothesis import given
from hypothesis import strategies as st

from factors.lockout import CLEAR, Lockout, LockoutPolicy, decayed, failures_at, is_locked, record_failure

POLICY = LockoutPolicy()
MINUTE = 60_000


def after(*times_ms: int) -> Lockout:
    lockout = CLEAR
    for time_ms in times_ms:
        lockout = record_failure(lockout, time_ms, POLICY)
    return lockout


def test_five_failures_in_five_minutes_lock_for_fifteen() -> None:
    lockout = after(0, 1, 2, 3)
    assert not is_locked(lockout, 3)
    lockout = record_failure(lockout, 4, POLICY)
    assert is_locked(lockout, 4)
    assert is_locked(lockout, 4 + 15 * MINUTE - 1)
    assert not is_locked(lockout, 4 + 15 * MINUTE)


def test_the_count_starts_anew_behind_the_lock() -> None:
    lockout = after(0, 0, 0, 0, 0)
    opened = 15 * MINUTE
    assert failures_at(lockout, opened, POLICY) == 0
    for _ in range(4):
        lockout = record_failure(lockout, opened, POLICY)
        assert not is_locked(lockout, opened)
    assert is_locked(record_failure(lockout, opened, POLICY), opened)


def test_a_failure_counts_for_five_minutes() -> None:
    lockout = after(0, 0, 0, 0)
    assert failures_at(lockout, 5 * MINUTE - 1, POLICY) == 4
    assert failures_at(lockout, 5 * MINUTE, POLICY) == 0
    assert is_locked(record_failure(lockout, 5 * MINUTE - 1, POLICY), 5 * MINUTE - 1)
    assert not is_locked(record_failure(lockout, 5 * MINUTE, POLICY), 5 * MINUTE)


def test_each_failure_fades_by_itself() -> None:
    lockout = after(0, 2 * MINUTE, 4 * MINUTE)
    assert [failures_at(lockout, minute * MINUTE, POLICY) for minute in (4, 5, 7, 9)] == [3, 2, 1, 0]


def test_decay_leaves_nothing_of_what_is_over() -> None:
    assert decayed(after(0, 0, 0, 0, 0), 15 * MINUTE, POLICY) == CLEAR


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (5, -1, 5)])
def test_a_policy_without_sense_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        LockoutPolicy(*numbers)


@given(st.lists(st.integers(0, 2 * MINUTE), min_size=1, max_size=60), st.integers(1, 6), st.integers(1, 10 * MINUTE))
def test_guesses_are_bounded(waits_ms: list[int], failures_max: int, window_ms: int) -> None:
    """However attempts are spread, no window holds more of those that were let through than the policy allows."""
    policy = LockoutPolicy(failures_max, window_ms, 15 * MINUTE)
    lockout, now_ms, tried = CLEAR, 0, []
    for wait_ms in waits_ms:
        now_ms += wait_ms
        if not is_locked(lockout, now_ms):
            tried.append(now_ms)
            lockout = record_failure(lockout, now_ms, policy)
            assert len(lockout.failures_ms) < failures_max
    for start in tried:
        assert sum(start <= attempt < start + min(window_ms, policy.duration_ms) for attempt in tried) <= failures_max
