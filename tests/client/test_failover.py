"""Which endpoint is tried when: every endpoint soon, never past the deadline, never without waiting for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.failover import Failover, FailoverPolicy

POLICY = FailoverPolicy(attempt_s_max=2.5, attempt_s_min=0.05, backoff_first_s=0.05, backoff_s_max=1.0)


def failover(endpoints: int, first: int = 0, deadline: float = 10.0, random: float = 0.5) -> Failover:
    return Failover(POLICY, endpoints, first, deadline, lambda: random)


def test_each_endpoint_is_tried_once_without_waiting() -> None:
    attempts = failover(3, first=1)
    order = []
    for _ in range(3):
        attempt = attempts.next(0.0)
        assert attempt is not None
        assert attempt.delay_s == 0.0
        order.append(attempt.endpoint)
        attempts.failed()
    assert order == [1, 2, 0]


def test_a_second_round_waits_longer_and_longer_up_to_a_bound() -> None:
    attempts = failover(1, random=0.999)
    delays = []
    for _ in range(10):
        attempt = attempts.next(0.0)
        assert attempt is not None
        delays.append(attempt.delay_s)
        attempts.failed()
    assert delays[0] == 0.0
    assert delays[1:] == sorted(delays[1:])
    assert delays[1] < 0.051
    assert delays[-1] <= 1.0


def test_a_hung_node_costs_a_part_of_the_time_only() -> None:
    attempts = failover(3)
    attempt = attempts.next(0.0)
    assert attempt is not None
    assert attempt.timeout_s == 2.5
    attempts.failed()
    second = attempts.next(2.5)
    assert second is not None
    assert (second.endpoint, second.delay_s) == (1, 0.0)


def test_an_overloaded_node_is_left_in_peace() -> None:
    attempts = failover(3)
    attempts.next(0.0)
    attempts.failed(overloaded=True)
    second = attempts.next(0.0)
    assert second is not None
    assert second.delay_s > 0


def test_what_a_node_asks_for_is_waited_for() -> None:
    attempts = failover(1)
    attempts.next(0.0)
    attempts.failed(retry_after_s=0.7)
    attempt = attempts.next(0.0)
    assert attempt is not None
    assert attempt.delay_s >= 0.7


def test_one_nodes_wish_to_wait_does_not_delay_the_next_node() -> None:
    attempts = failover(2)
    attempts.next(0.0)
    attempts.failed(retry_after_s=5.0)
    attempt = attempts.next(0.0)
    assert attempt is not None
    assert attempt.delay_s == 0.0


@given(
    endpoints=st.integers(1, 7),
    random=st.floats(0, 1, exclude_max=True),
    outcomes=st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 1)), max_size=200),
)
def test_no_attempt_ends_after_the_deadline(
    endpoints: int, random: float, outcomes: list[tuple[bool, float, float]]
) -> None:
    attempts = failover(endpoints, random=random)
    now = 0.0
    for overloaded, retry_after_s, part in outcomes:
        attempt = attempts.next(now)
        if attempt is None:
            assert now > 10.0 - POLICY.backoff_s_max * 1.25 - POLICY.attempt_s_min
            return
        assert 0 <= attempt.endpoint < endpoints
        assert attempt.delay_s >= 0
        assert POLICY.attempt_s_min <= attempt.timeout_s <= POLICY.attempt_s_max
        assert now + attempt.delay_s + attempt.timeout_s <= 10.0 + 1e-9
        now += attempt.delay_s + attempt.timeout_s * part
        attempts.failed(overloaded=overloaded, retry_after_s=retry_after_s)


@pytest.mark.parametrize("arguments", [{"attempt_s_max": 0.01}, {"backoff_first_s": 2.0}])
def test_a_policy_that_makes_no_sense_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(AssertionError):
        FailoverPolicy(**arguments)
