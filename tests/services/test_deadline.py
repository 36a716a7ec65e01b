"""The caller's deadline, and what is kept back of it."""

import grpc
import pytest

from cluster.services.deadline import budget_s
from cluster.services.status import CallError


@pytest.mark.parametrize(
    ("remaining", "budget"),
    [(None, 10.0), (10.0, 9.8), (1.0, 0.8), (0.5, 0.4), (0.01, 0.008), (30.0, 29.8), (9e9, 29.8)],
)
def test_the_budget_lies_within_the_callers_time(remaining: float | None, budget: float) -> None:
    assert budget_s(lambda: remaining) == pytest.approx(budget)


@pytest.mark.parametrize("remaining", [0.0, -1.0])
def test_a_call_without_time_ends_at_once(remaining: float) -> None:
    with pytest.raises(CallError) as raised:
        budget_s(lambda: remaining)
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
