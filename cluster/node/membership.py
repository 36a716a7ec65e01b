"""Brings the log's configuration closer to what operators asked for, one step at a time.

The state's records say who is to be a member; the log's configuration says who is. The leader's node compares them
and makes the next step. It remembers nothing that matters between two looks, so a new leader goes on where the old one
was. A removal that can't be made for a while, since too few of the others answer, is given up: it would stand in the
way of the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.raft.errors import ChangeRefused
from cluster.raft.membership import Configuration
from cluster.state.records import Member

GIVE_UP_S: Final = 5.0
# While leadership is being handed on nothing is proposed, so it is not tried all the time.
HAND_ON_AGAIN_S: Final = 2.0


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
    """Call `step` every 100 ms or so on the node that leads. `refused` is the last reason why a step was not made.

    `settle(member id, gone)` proposes to end a removal: `gone` where no configuration has that member, otherwise since
    it can't be made.
    """

    def __init__(
        self,
        engine: Changeable,
        members: Callable[[], Mapping[str, Member]],
        monotonic: Callable[[], float],
        settle: Callable[[str, bool], None],
    ) -> None:
        self._engine = engine
        self._members = members
        self._monotonic = monotonic
        self._settle = settle
        self._leaving: str | None = None
        self._leaving_since = 0.0
        self._handed_on_at = -math.inf
        self.refused: str | None = None

    def step(self) -> None:
        members = self._members()
        if not self._give_up(members):
            self._change(members)

    def _change(self, members: Mapping[str, Member]) -> None:
        engine = self._engine
        step = next_step(members, engine.configuration, engine.member_id, engine.is_filled)
        match step:
            case None:
                self.refused = None
            case HandOn():
                self.hand_on(None)
            case Configuration():
                try:
                    engine.change_configuration(step)
                    self.refused = None
                except ChangeRefused as refused:
                    self.refused = refused.reason

    def hand_on(self, member_id: str | None) -> None:
        """Let that member lead, or any; not again too soon."""
        now = self._monotonic()
        if not self._engine.transferring and now - self._handed_on_at >= HAND_ON_AGAIN_S:
            self._handed_on_at = now
            self._engine.transfer_leadership(member_id)

    def pause(self) -> None:
        """This node does not lead now: what was going on is another's."""
        self._leaving = None
        self._handed_on_at = -math.inf

    def _give_up(self, members: Mapping[str, Member]) -> bool:
        leaving = next((member_id for member_id in sorted(members) if members[member_id].leaving), None)
        now = self._monotonic()
        if leaving is None or leaving != self._leaving:
            self._leaving, self._leaving_since = leaving, now
            return False
        if now - self._leaving_since < GIVE_UP_S:
            return False
        self._settle(leaving, leaving not in self._engine.configuration.members)
        return True
