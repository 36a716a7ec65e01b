"""Brings the log's configuration closer to what operators asked for, one step at a time.

The state's records say who is to be a member; the log's configuration says who is. The leader's node compares them
and makes the next step. It remembers nothing between two looks, so a new leader goes on where the old one was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cluster.raft.errors import ChangeRefused
from cluster.raft.membership import Configuration
from cluster.state.records import Member


@dataclass(frozen=True, slots=True)
class HandOn:
    """The leader itself is to leave: another must lead first."""


def next_step(
    members: Mapping[str, Member], configuration: Configuration, leader: str, is_filled: Callable[[str], bool]
) -> Configuration | HandOn | None:
    """The configuration that should follow, or None where nothing is to be done (yet).

    `members`: the state's records by member id. Removals come first: they may be what a waiting addition needs.
    """
    for member_id in configuration.members:
        member = members.get(member_id)
        if member is None or member.leaving:
            return HandOn() if member_id == leader else configuration.without(member_id)
    for member_id in sorted(members):
        if member_id not in configuration.members and not members[member_id].leaving:
            return configuration.with_learner(member_id)
    for member_id in configuration.learners:
        if is_filled(member_id):
            return configuration.with_voter(member_id)
    return None


class Changeable(Protocol):
    """What is asked of the engine."""

    @property
    def configuration(self) -> Configuration: ...
    @property
    def member_id(self) -> str: ...
    @property
    def transferring(self) -> bool: ...
    def is_filled(self, member_id: str) -> bool: ...
    def change_configuration(self, new: Configuration) -> None: ...
    def transfer_leadership(self, member_id: str | None = None) -> None: ...


class MembershipDriver:
    """Call `step` every 100 ms or so on the node that leads. `refused` is the last reason why a step was not made."""

    def __init__(self, engine: Changeable, members: Callable[[], Mapping[str, Member]]) -> None:
        self._engine = engine
        self._members = members
        self.refused: str | None = None

    def step(self) -> None:
        engine = self._engine
        step = next_step(self._members(), engine.configuration, engine.member_id, engine.is_filled)
        match step:
            case None:
                self.refused = None
            case HandOn():
                if not engine.transferring:
                    engine.transfer_leadership()
            case Configuration():
                try:
                    engine.change_configuration(step)
                    self.refused = None
                except ChangeRefused as refused:
                    self.refused = refused.reason
