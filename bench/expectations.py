"""What the project expects of itself, beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

RATE_RATIO_MIN = 0.5
LEADER_KILLED_S_MAX = 2.5
RESIDENT_MIB_MAX = 300.0
START_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Expectation:
    what: str
    measured: float
    expected: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        return self.measured >= self.expected if self.at_least else self.measured <= self.expected

    def as_figures(self) -> dict[str, Any]:
        sign = ">=" if self.at_least else "<="
        return {
            "what": self.what,
            "measured": round(self.measured, 3),
            "expected": f"{sign} {self.expected:.3g}",
            "holds": self.holds,
        }


def expectations(results: dict[str, Any]) -> list[Expectation]:
    """Those for which all figures were taken."""
    found: list[Expectation] = []
    disk, empty, sign_in = (results.get(part) for part in ("disk", "empty_call", "sign_in"))
    if disk and empty and sign_in:
        allowed = 2.5 * empty["one_server"]["1"]["p50_ms"] + 2 * disk["p50_ms"] + 1.0
        found += [
            Expectation(
                "1 in flight: p50, ms, against 2.5 x empty call + 2 x fdatasync + 1 ms", sign_in["1"]["p50_ms"], allowed
            ),
            Expectation(
                "192 in flight: rate, of three empty servers' rate",
                sign_in["192"]["calls_per_second"] / empty["three_servers"]["192"]["calls_per_second"],
                RATE_RATIO_MIN,
                at_least=True,
            ),
        ]
    if killed := results.get("leader_killed"):
        found.append(
            Expectation("leader killed: worst time without answers, s", killed["worst_s"], LEADER_KILLED_S_MAX)
        )
    if most := results.get("start_up", {}).get("100000"):
        found += [
            Expectation(
                "100,000 users: resident memory of a node, MiB", most["resident_mib"]["worst"], RESIDENT_MIB_MAX
            ),
            Expectation("100,000 users: a node's start until it serves, s", most["serves_s"]["worst"], START_S_MAX),
        ]
    return found
