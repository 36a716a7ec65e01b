"""A node without Raft: what is proposed is applied to a real state at once. For tests of what stands above."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from cluster.node.authority import IssuingAuthority
from cluster.services.administration import AdministrationService
from cluster.services.authentication import AuthenticationService
from cluster.services.cluster import ClusterService
from cluster.services.gate import Gate
from cluster.services.hashing import HashPool
from cluster.services.membership import Hosting
from cluster.services.ports import ClusterView, NodeRole, NodeView, Unavailable
from cluster.services.proposals import Proposals
from cluster.services.sign_ins import SignIns
from cluster.state.apply import State
from cluster.state.client_reads import is_revoked
from cluster.state.codec import pack_group
from cluster.state.commands import VERSION
from cluster.state.genesis import genesis
from cluster.state.lease_reads import list_leases
from cluster.state.records import ClusterIdentity, IssuingKey, Member, Role, Settings
from cluster.state.results import Result
from tests.services.certificates import CLUSTER_ID, client_uri
from tests.services.door import Services

Submitted = tuple[bytes, Callable[[Result | Unavailable], None]]

MEMBER_ID = "d0" * 16
START_MS = 1_800_000_000_000

NO_ISSUING_KEY = IssuingKey(b"private", b"certificate", b"root")

# Each client is named after its role; "everything" is what `watchword up` hands out.
ROLES: Mapping[str, frozenset[Role]] = {
    **{role.value: frozenset({role}) for role in Role},
    "everything": frozenset({Role.OPERATOR, Role.FRONTEND}),
}


def first_state(
    roles: Mapping[str, frozenset[Role]] = ROLES,
    settings: Settings | None = None,
    issuing_key: IssuingKey = NO_ISSUING_KEY,
    created_ms: int = START_MS,
) -> State:
    return genesis(
        cluster=ClusterIdentity(CLUSTER_ID, 1, "ab" * 16, created_ms, VERSION),
        members={MEMBER_ID: Member("node-1", "127.0.0.1:7002", "127.0.0.1:7001")},
        roles={client_uri(name): own for name, own in roles.items()},
        issuing_key=issuing_key,
        digest_key=bytes(range(32)),
        settings=settings,
    )


class DirectNode:
    """`now_ms` is the log's clock and the node's own. `before` is called ahead of each proposal, and may raise."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or first_state()
        self.now_ms = START_MS
        self.timeouts: list[float] = []
        self.before: Callable[[], None] = lambda: None
        self.answer: Result | None = None
        self.led_by: str | None = MEMBER_ID
        self.hold = False  # what is submitted waits in `held`
        self.held: list[Submitted] = []
        self._submitted: list[Submitted] = []
        self._drawn = Counter[str]()
        self.hashes = HashPool(2)

    async def propose(self, command: bytes, timeout_s: float) -> Result:
        self.timeouts.append(timeout_s)
        self.before()
        if self.answer is not None:
            return self.answer
        results = self.state.apply(self.state.position.index + 1, 1, self.now_ms, [pack_group([command])])
        return results[0][0]

    def submit(self, command: bytes, timeout_s: float, answer: Callable[[Result | Unavailable], None]) -> None:
        """What is submitted in one turn of the loop is one entry, applied and answered in the next but one."""
        self.timeouts.append(timeout_s)
        self.before()
        if not self._submitted:
            asyncio.get_running_loop().call_soon(self._apply)
        self._submitted.append((command, answer))

    def _apply(self) -> None:
        submitted, self._submitted = self._submitted, []
        if self.hold:
            self.held += submitted
            return
        payload = pack_group([command for command, _ in submitted])
        results = self.state.apply(self.state.position.index + 1, 1, self.now_ms, [payload])[0]
        for (_, answer), result in zip(submitted, results, strict=True):
            answer(result)

    def let_go(self) -> None:
        """Apply what was held back."""
        self.hold = False
        self._submitted, self.held = self.held + self._submitted, []
        self._apply()

    def roles_of(self, identity: str) -> frozenset[Role]:
        return self.state.roles_of(identity)

    def is_revoked(self, identity: str) -> bool:
        return is_revoked(self.state, identity)

    def random_bytes(self, length: int) -> bytes:
        """Different at each call, the same in each test."""
        self._drawn["calls"] += 1
        return bytes([self._drawn["calls"]]) * length

    def leader(self) -> str | None:
        return self.led_by

    def kek_id(self) -> str:
        return "0" * 16

    def kek_text(self) -> str:
        return "the key-encryption key"

    def cluster_view(self) -> ClusterView:
        return ClusterView(
            cluster_id=CLUSTER_ID,
            incarnation_counter=1,
            incarnation_id="ab" * 16,
            quorum=True,
            failure_tolerance=1,
            leader_name="node-1",
            leader_member_id=MEMBER_ID,
            node=NodeView(
                name="node-1",
                member_id=MEMBER_ID,
                address="127.0.0.1:7001",
                peer_address="127.0.0.1:7002",
                role=NodeRole.LEADER,
                voter=True,
                version="0.1.0",
                term=3,
                commit_index=0,
                applied_index=0,
                digest=bytes(32),
                clock_offset_ms=0,
            ),
            peers=tuple(
                NodeView(
                    name=name, member_id=id_ * 16, address="", peer_address="", role=NodeRole.UNREACHABLE, voter=True
                )
                for name, id_ in (("node-3", "d3"), ("node-2", "d2"))
            ),
            leases=list_leases(self.state, self.now_ms),
            wall_ms=self.now_ms,
        )

    def proposals_and_sign_ins(self) -> tuple[Proposals, SignIns]:
        proposals = Proposals(self)
        return proposals, SignIns(proposals, self.hashes, self.random_bytes)

    def services(self, _gate: Gate, _log: FilteringBoundLogger) -> Services:
        proposals, sign_ins = self.proposals_and_sign_ins()
        return Services(
            AuthenticationService(proposals, sign_ins),
            AdministrationService(
                proposals, IssuingAuthority(), sign_ins, random_bytes=self.random_bytes, wall_ms=lambda: self.now_ms
            ),
            ClusterService(self, proposals, Hosting(self, IssuingAuthority(), self.random_bytes), lambda: self.now_ms),
        )
