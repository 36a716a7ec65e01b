"""A stage for scripted conversations: real engines on disks in memory, with a clock and a network moved by hand.

`Stage("abc")` has three real members.  `Stage("a", members="abc")` has one; the test speaks for the others with `say`
and reads what was sent to them with `sent`.  Nothing happens by itself: `tick`, `sync`, `settle` and `run` do it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from cluster.raft.engine import RaftSettings
from cluster.raft.messages import Body, Frame, PreVote, PreVoteRequest, Vote, VoteRequest, encode
from datastore.journal import JournalLimits
from datastore.keys import KeyRing, new_kek
from tests.raft.actor import (
    DIRECTORY,
    EPOCH_MS,
    IDENTITY,
    START_INDEX,
    Actor,
    Letter,
    Machine,
    Time,
    entries,
    entry,
    group,
    member,
)

__all__ = [
    "DIRECTORY",
    "EPOCH_MS",
    "IDENTITY",
    "SETTINGS",
    "START_INDEX",
    "TICK",
    "Actor",
    "Letter",
    "Machine",
    "Stage",
    "entries",
    "entry",
    "group",
    "member",
]

TICK = 0.01
SETTINGS = RaftSettings()

KindT = TypeVar("KindT")


class Stage:
    def __init__(
        self,
        real: str,
        members: str | None = None,
        *,
        settings: RaftSettings = SETTINGS,
        limits: JournalLimits | None = None,
        base: tuple[int, int] = (START_INDEX, 0),
        seed: int = 1,
    ) -> None:
        self.names = members or real
        self.settings, self.seed = settings, seed
        self.limits = limits or JournalLimits()
        self.time = Time()
        self.network: list[Letter] = []
        self.cuts: set[frozenset[str]] = set()
        chance = random.Random(seed)
        self.keys = KeyRing.generate(new_kek(chance.randbytes), chance.randbytes)
        self.actors = {name: Actor(self, name, base) for name in real}
        for actor in self.actors.values():
            actor.connect()

    def __getitem__(self, name: str) -> Actor:
        return self.actors[name]

    def join(self, name: str) -> Actor:
        """A real machine that knows who is a member, is none, and has nothing of the log."""
        actor = self.actors[name] = Actor(self, name, (0, 0), joins=True)
        for other in self.actors.values():
            if other is not actor:
                actor.engine.connected(member(other.name))
                other.engine.connected(member(name))
        return actor

    # -- what the test says for members that are not real ------------------------------------------------------------
    def say(self, sender: str, to: str, body: Body, term: int, *, session: bytes = b"script", **envelope: Any) -> None:
        frame = Frame(
            incarnation=IDENTITY.incarnation_id,
            member=member(sender),
            session=session,
            start_term=envelope.pop("start_term", 0),
            start_index=envelope.pop("start_index", START_INDEX),
            wall_ms=envelope.pop("wall_ms", EPOCH_MS + round(self.time.now * 1000)),
            term=term,
            body=body,
            digest=envelope.pop("digest", None),
        )
        assert not envelope, f"unknown fields {sorted(envelope)}"
        self[to].engine.receive(member(sender), encode(frame))

    def sent(self, kind: type[KindT], to: str | None = None) -> list[KindT]:
        """The bodies of this kind that are on the network, oldest first."""
        return [body for body in self.bodies(to) if isinstance(body, kind)]

    def bodies(self, to: str | None = None) -> list[Body]:
        return [letter.body for letter in self.network if to in (None, letter.to)]

    def last(self, kind: type[KindT], to: str | None = None) -> KindT:
        return self.sent(kind, to)[-1]

    # -- what happens ------------------------------------------------------------------------------------------------
    def tick(self, names: Iterable[str] | None = None) -> None:
        for name in self.actors if names is None else names:
            self[name].engine.tick()

    def sync(self) -> None:
        for actor in self.actors.values():
            actor.sync()

    def deliver(self, keep: Callable[[Letter], bool] = lambda _: False) -> int:
        """Hands over what is on the network, but for what `keep` leaves there; how many frames arrived."""
        letters, self.network = self.network, []
        arrived = 0
        for letter in letters:
            if letter.to not in self.actors or keep(letter):
                self.network.append(letter)
            elif frozenset((letter.sender, letter.to)) not in self.cuts:
                arrived += 1
                self[letter.to].engine.receive(member(letter.sender), letter.data)
        return arrived

    def settle(self, names: Iterable[str] | None = None) -> None:
        """Frames, syncs and ticks until nothing moves; no time passes."""
        for _ in range(200):
            self.sync()
            self.tick(names)
            if not self.deliver() and not any(actor.wants_sync() for actor in self.actors.values()):
                return
        raise AssertionError("the conversation never ends")

    def run(self, seconds: float, names: Iterable[str] | None = None) -> None:
        """Time passes; only `names` look at their timers, where given."""
        chosen = None if names is None else list(names)
        for _ in range(round(seconds / TICK)):
            self.time.now += TICK
            self.settle(chosen)

    def isolate(self, name: str) -> None:
        self.cuts |= {frozenset((name, other)) for other in self.names if other != name}

    def heal(self) -> None:
        self.cuts.clear()

    def elect(self, name: str) -> Actor:
        """Time passes for this real member alone, until it leads; all that answers must be real."""
        actor = self[name]
        for _ in range(800):
            if actor.is_leader:
                self.settle()
                return actor
            self.time.now += TICK
            self.settle([name])
        raise AssertionError(f"{name} was not elected")

    def campaign(self, name: str, voters: str) -> int:
        """Brings this member to ask for votes, with `voters` (not real) for it; returns the term it asks in."""
        self.network.clear()
        for _ in range(800):
            self.time.now += TICK
            self.tick([name])
            self.sync()
            asked = self.sent(PreVoteRequest, voters[0])
            if asked:
                for voter in voters:
                    self.say(voter, name, PreVote(asked[-1].next_term, True), self[name].engine.status().term)
                self.tick([name])
                self.sync()
            if self.sent(VoteRequest, voters[0]):
                return self[name].engine.status().term
        raise AssertionError(f"{name} does not campaign")

    def lead(self, name: str = "a", voters: str = "b") -> int:
        """Makes this member leader by the votes of members that are not real; returns its term."""
        term = self.campaign(name, voters)
        for voter in voters:
            self.say(voter, name, Vote(), term)
        assert self[name].is_leader, "elected"
        self.sync()
        return term

    def propose(self, name: str, *payloads: bytes) -> None:
        for payload in payloads:
            assert self[name].engine.hand_over(group(payload)), "handed over"
            self.settle()
