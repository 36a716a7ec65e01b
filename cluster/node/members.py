"""Who the members are, lived: connections follow the records, and where this node leads, so does the log.

Called in the node's loop; nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from structlog.typing import FilteringBoundLogger

from cluster.node.clock import NodeClock
from cluster.node.configuration import parse_address
from cluster.node.membership import MembershipDriver
from cluster.node.proposer import Proposer, QueueFull, Unavailable
from cluster.raft.engine import Engine
from cluster.raft.links import Links, PeerAddress
from cluster.state import codec, reads
from cluster.state.apply import State
from cluster.state.commands import SettleMember
from cluster.state.records import Transfer
from cluster.state.results import Result

LOOK_S: Final = 0.1
SETTLE_S: Final = 5.0
TRANSFER_ASKED_MS_MAX: Final = 10_000


class Members:
    """`state` gives the live state, which a snapshot replaces."""

    def __init__(
        self,
        member_id: str,
        engine: Engine,
        links: Links,
        proposer: Proposer[Result],
        *,
        state: Callable[[], State],
        clock: NodeClock,
        log: FilteringBoundLogger,
    ) -> None:
        self._member_id = member_id
        self._engine = engine
        self._links = links
        self._proposer = proposer
        self._state = state
        self._clock = clock
        self._log = log
        self._peers: dict[str, PeerAddress] = {}
        self._looked_at = -math.inf
        self._settling = False
        self._fulfilled: Transfer | None = None
        self.driver = MembershipDriver(engine, lambda: reads.members(state()), clock.monotonic, self._settle)

    def tick(self) -> None:
        """Every few milliseconds."""
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        self.follow()
        if self._engine.status().role != "leader":
            self._fulfilled = reads.transfer(self._state())
            self.driver.pause()
            return
        if not self._settling:
            self.driver.step()
        self._hand_on_as_wished()

    def follow(self) -> None:
        """Connect to who is a member, and to nobody else."""
        peers = {}
        for member_id, member in reads.members(self._state()).items():
            if member_id == self._member_id:
                continue
            try:
                peers[member_id] = PeerAddress(*parse_address(member.peer_address))
            except ValueError:  # was refused at the door; no record may stop all nodes at once
                self._links.say("peer_address_malformed", member_id)
        if peers != self._peers:
            self._peers = peers
            self._links.set_peers(peers)

    def _hand_on_as_wished(self) -> None:
        wish = reads.transfer(self._state())
        if wish is None or wish == self._fulfilled or wish.from_member != self._member_id:
            return
        if wish.to_member == self._member_id or self._clock.wall_ms() - wish.asked_ms > TRANSFER_ASKED_MS_MAX:
            return
        voters = self._engine.configuration.voters
        able = [
            peer.member_id
            for peer in self._engine.status().peers
            if peer.connected and peer.member_id in voters and self._engine.is_filled(peer.member_id)
        ]
        if wish.to_member in able or (able and not wish.to_member):
            self.driver.hand_on(wish.to_member or None)

    def _settle(self, member_id: str, gone: bool) -> None:
        self._log.warning("removal_over" if gone else "removal_given_up", member=member_id, reason=self.driver.refused)
        state = self._state()
        own = f"watchword://{state.identity.cluster_id}/node/{self._member_id}"
        request_id = f"settle-{member_id}-{state.position.index}"
        command = codec.pack(SettleMember(member_id, gone), request_id=request_id, client=own)
        deadline = self._clock.monotonic() + SETTLE_S
        self._settling = True

        def settled(_outcome: Result | Unavailable) -> None:
            self._settling = False  # where nothing came of it, the driver asks again

        try:
            self._proposer.submit(command, codec.command_cost(command), deadline, settled)
        except QueueFull:
            self._settling = False
