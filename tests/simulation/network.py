"""The simulated network between nodes: in order with cuts, or with loss, duplication and reordering.

A connection between two nodes exists or not, for both; whether frames arrive is another matter (one-way partitions).
"""

from collections.abc import Callable, Iterable
from typing import Protocol
from zlib import crc32

from tests.simulation.faults import LATE_S_MAX, Odds
from tests.simulation.world import World

RECONNECT_S = (0.01, 0.5)
NOTICE_S = (0.2, 2.0)  # until a connection that nothing comes through is given up


class Endpoint(Protocol):
    """What the network asks of a node. `up` is false while it is down."""

    name: str

    @property
    def up(self) -> bool: ...

    def connected(self, peer: str) -> None: ...
    def disconnected(self, peer: str) -> None: ...
    def deliver(self, peer: str, frame: bytes) -> None: ...
    def retire(self) -> None: ...


Link = tuple[str, str]


class Network:
    """Frames by the names of nodes. Blocked directions come from the faults; a calm network has none."""

    def __init__(self, world: World, odds: Odds, describe: Callable[[bytes], str]) -> None:
        self._world = world
        self._odds = odds
        self._describe = describe
        self._random = world.random("network")
        self._nodes: dict[str, Endpoint] = {}
        self._connection: dict[Link, int] = {}  # sorted pair -> number of the live connection
        self._connections = 0
        self._due: dict[Link, float] = {}  # when the last frame in order arrives
        self._dead: dict[Link, int] = {}  # direction -> the connection on which something was lost
        self.blocked: dict[Link, int] = {}  # direction -> how many outages block it
        self.calm = False

    def add(self, node: Endpoint) -> None:
        self._nodes[node.name] = node

    def peers_of(self, name: str) -> Iterable[str]:
        return [other for other in self._nodes if other != name]

    def connect_all(self, name: str) -> None:
        """A node came up: its connections are made a little later."""
        for other in self.peers_of(name):
            self._reconnect_soon(_pair(name, other))

    def cut(self, a: str, b: str) -> None:
        """Break the connection: what is on its way is lost, both notice, and make another later."""
        pair = _pair(a, b)
        if self._connection.pop(pair, None) is None:
            return
        self._world.note("cut", a, b)
        for here, there in (pair, pair[::-1]):
            if self._nodes[here].up:
                self._nodes[here].disconnected(there)
        self._reconnect_soon(pair)

    def cut_all(self, name: str) -> None:
        for other in self.peers_of(name):
            self.cut(name, other)

    def cut_soon(self, a: str, b: str) -> None:
        """From within a step of one of them."""
        self._world.after(0.0, self.cut, a, b)

    def tell_of_removal(self, source: str, target: str) -> None:
        """What a peer's refusal says, at its next attempt to connect."""
        if (source, target) not in self.blocked:
            self._world.after(self._random.uniform(*self._odds.delay_s), self._nodes[target].retire)

    def block(self, directions: Iterable[Link]) -> None:
        for link in directions:
            self.blocked[link] = self.blocked.get(link, 0) + 1

    def unblock(self, directions: Iterable[Link]) -> None:
        for link in directions:
            if self.blocked.get(link, 0) > 1:
                self.blocked[link] -= 1
            else:
                self.blocked.pop(link, None)

    def send(self, source: str, target: str, frame: bytes) -> None:
        connection = self._connection.get(_pair(source, target))
        self._world.counts["frames"] += 1
        if connection is None:
            return
        link, random, odds = (source, target), self._random, self._odds
        delay_s = random.uniform(*odds.delay_s)
        if odds.in_order:
            due = max(self._due.get(link, 0.0), self._world.now + delay_s)
            self._due[link] = due
            self._world.after(due - self._world.now, self._arrive, link, connection, frame)
            return
        if not self.calm:
            if odds.hits("loss", random):
                self._world.counts["loss"] += 1
                return
            if odds.hits("late", random):
                self._world.counts["late"] += 1
                delay_s += random.uniform(0, LATE_S_MAX)
            if odds.hits("duplication", random):
                self._world.counts["duplication"] += 1
                self._world.after(delay_s + random.uniform(0, 0.2), self._arrive, link, connection, frame)
        self._world.after(delay_s, self._arrive, link, connection, frame)

    def _arrive(self, link: Link, connection: int, frame: bytes) -> None:
        source, target = link
        alive = self._connection.get(_pair(source, target)) == connection
        if self._odds.in_order and (not alive or self._dead.get(link) == connection):
            return
        if link in self.blocked:
            self._world.counts["blocked"] += 1
            if self._odds.in_order:
                self._dead[link] = connection
                self._world.after(self._random.uniform(*NOTICE_S), self._give_up, link, connection)
            return
        node = self._nodes[target]
        if node.up and alive:
            self._world.note(source, ">", target, self._describe(frame), crc32(frame))
            node.deliver(source, frame)

    def _give_up(self, link: Link, connection: int) -> None:
        if self._connection.get(_pair(*link)) == connection:
            self.cut(*link)

    def _reconnect_soon(self, pair: Link) -> None:
        self._world.after(self._random.uniform(*RECONNECT_S), self._reconnect, pair)

    def _reconnect(self, pair: Link) -> None:
        a, b = pair
        if pair in self._connection or not (self._nodes[a].up and self._nodes[b].up):
            return
        if pair in self.blocked or pair[::-1] in self.blocked:
            self._reconnect_soon(pair)
            return
        self._connections += 1
        self._connection[pair] = self._connections
        self._world.note("connect", a, b)
        self._nodes[a].connected(b)
        self._nodes[b].connected(a)


def _pair(a: str, b: str) -> Link:
    return (a, b) if a < b else (b, a)
