"""The state machine as the engine sees it: apply, the digest at an index, and the swap when a snapshot is installed.

The engine calls `apply` once for each index, in order, and counts on it to be total: nothing here raises but for a
broken invariant, and what goes wrong is told through callbacks. A command newer than this version takes the node out
of service by name: from then on nothing is applied here, so that it can't answer differently from its peers.
"""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from cluster.raft.membership import Configuration
from cluster.raft.messages import Group
from cluster.state.errors import NewerCommand

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

DIGESTS_KEPT = 4096


class Applies(Protocol[R_co]):
    """What is asked of the replicated state."""

    @property
    def running_digest(self) -> bytes: ...

    def apply(
        self, index: int, term: int, stamp_ms: int, group_payloads: Sequence[bytes]
    ) -> Sequence[Sequence[R_co]]: ...

    def configure(
        self, index: int, term: int, stamp_ms: int, voters: Sequence[str], learners: Sequence[str]
    ) -> None: ...


class Replica(Generic[R]):
    """Applies entries to the state and passes each group's results on, by the group's id.

    `on_applied(index, stamp, results by group)` is called for each entry, before its results are passed on;
    `on_results(group id, results)` is the proposer's `applied`; `on_newer_command` is called once.
    """

    def __init__(
        self,
        state: Applies[R],
        *,
        on_results: Callable[[bytes, Sequence[R]], None],
        on_newer_command: Callable[[NewerCommand], None],
        on_applied: Callable[[int, int, Sequence[Sequence[R]]], None] = lambda _index, _stamp_ms, _results: None,
    ) -> None:
        self._state = state
        self._on_results = on_results
        self._on_newer_command = on_newer_command
        self._on_applied = on_applied
        self._digests: dict[int, bytes] = {}  # the last DIGESTS_KEPT, by index
        self._out_of_service = False

    @property
    def state(self) -> Applies[R]:
        return self._state

    @property
    def out_of_service(self) -> bool:
        """A newer command was met: this node's state stands still and must not be asked."""
        return self._out_of_service

    def digest_at(self, index: int) -> bytes | None:
        """The running digest after that index, for the last few thousand indices applied by this process."""
        return self._digests.get(index)

    def apply(self, index: int, term: int, stamp_ms: int, groups: Sequence[Group]) -> bytes:
        """Apply one entry; returns the running digest (32 bytes) after it."""
        if self._out_of_service:
            return self._state.running_digest
        try:
            results = self._state.apply(index, term, stamp_ms, [group.payload for group in groups])
        except NewerCommand as newer:
            self._out_of_service = True
            self._on_newer_command(newer)
            return self._state.running_digest
        digest = self._state.running_digest
        self._digests[index] = digest
        self._digests.pop(index - DIGESTS_KEPT, None)
        self._on_applied(index, stamp_ms, results)
        for group, answers in zip(groups, results, strict=True):
            self._on_results(group.group_id, answers)
        return digest

    def configure(self, index: int, term: int, stamp_ms: int, configuration: Configuration) -> bytes:
        """Apply an entry that changes the members; returns the running digest after it."""
        if not self._out_of_service:
            self._state.configure(index, term, stamp_ms, configuration.voters, configuration.learners)
            self._digests[index] = self._state.running_digest
        return self._state.running_digest

    def replace(self, state: Applies[R]) -> None:
        """Stand on another state from now on: a snapshot was installed."""
        self._state = state
        self._digests.clear()
