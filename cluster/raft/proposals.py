"""The leader's side of a proposal: groups that wait, the entry that they share, and its stamp."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cluster.raft import entries
from cluster.raft.membership import Configuration, Membership
from cluster.raft.messages import Group, HandOverRefused
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.settings import RaftSettings
from cluster.raft.timestamps import Reading, judge, next_stamp, slowest
from cluster.raft.wire import Clock, Wire
from datastore.journal import Journal


class Proposals:
    """`refused(group_id)` is called for a group of this node's own that could not be taken."""

    def __init__(
        self,
        member_id: str,
        membership: Membership,
        journal: Journal,
        wire: Wire,
        clock: Clock,
        readings: dict[str, Reading],
        settings: RaftSettings,
        applied_stamp_ms: Callable[[], int],
    ) -> None:
        self._member_id = member_id
        self._membership = membership
        self._journal = journal
        self._wire = wire
        self._clock = clock
        self._readings = readings
        self._settings = settings
        self._waiting: dict[bytes, tuple[str, Group]] = {}
        self._appended: dict[bytes, int] = {}  # groups of entries that are not applied yet -> the entry's index
        self._appended_term = 0
        self._applied_stamp_ms = applied_stamp_ms
        self.core: Core  # set by the engine, which the core needs first
        self.refused: Callable[[bytes], None] = lambda _: None
        self.paused = False
        self.hand_leadership_to: str | None = None

    def offer(self, origin: str, groups: Sequence[Group]) -> None:
        """Queues groups for the next entry, or refuses them to their origin."""
        for group in groups:
            reason = self._objection(group)
            if reason is not None:
                self._refuse(origin, group.group_id, reason)
            elif not self._is_appended(group.group_id):
                self._waiting[group.group_id] = (origin, group)

    def _objection(self, group: Group) -> str | None:
        if not self.core.is_leader or self.paused:
            return "not leader"
        if len(group.payload) > self._settings.entry_bytes_max:
            return "too large"
        if len(self._waiting) >= self._settings.waiting_groups_max and group.group_id not in self._waiting:
            return "full"
        return None

    def _is_appended(self, group_id: bytes) -> bool:
        """Whether an entry of this leader's term has the group, and is not applied yet.

        Its origin is impatient then: under load a second entry with the same would only add to it. A leader's own
        entries stay in its log, and whoever leads in another term begins with none.
        """
        index = self._appended.get(group_id)
        of_this_term = self._appended_term == self._journal.current_term
        return of_this_term and index is not None and index > self.core.applied_index

    def on_refused(self, group_ids: Sequence[bytes]) -> None:
        """The leader has not taken these groups of this node's."""
        for group_id in group_ids:
            self.refused(group_id)

    def propose(self) -> None:
        """Makes entries of what waits, as long as few enough are under way."""
        if not self._waiting:
            return
        if not self.core.is_leader or self.paused:
            self.refuse_all("not leader")
            return
        while self._waiting and self._under_way() < self._settings.entries_in_flight_max:
            stamp_ms = self._stamp()
            if stamp_ms is None:
                self.refuse_all("clock")
                return
            groups = self._take()
            self.core.propose(entries.pack_groups(stamp_ms, groups))
            self._remember(groups)

    def _remember(self, groups: Sequence[Group]) -> None:
        term, applied_index = self._journal.current_term, self.core.applied_index
        kept = self._appended if self._appended_term == term else {}
        self._appended = {group_id: index for group_id, index in kept.items() if index > applied_index}
        self._appended_term = term
        self._appended |= dict.fromkeys((group.group_id for group in groups), self._journal.last_index)

    def propose_configuration(self, configuration: Configuration) -> bool:
        """Appends a change of members; False while the clocks don't agree or leadership is being handed on."""
        if self.paused:
            return False
        stamp_ms = self._stamp()
        if stamp_ms is None:
            return False
        self.core.propose(entries.pack_configuration(stamp_ms, configuration))
        return True

    def refuse_all(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for origin, group in waiting.values():
            self._refuse(origin, group.group_id, reason)

    def last_stamp_ms(self) -> int:
        """Of the newest entry in the log that has one; no-ops have none, and few stand in a row.

        Where compaction has left none, of what was applied: only what is applied is ever compacted.
        """
        journal = self._journal
        for index in range(journal.last_index, journal.base_index, -1):
            entry = journal.entry(index)
            assert entry is not None, "the journal has a hole in memory"
            stamp = entries.stamp_of(entry.data)
            if stamp is not None:
                return stamp
        return self._applied_stamp_ms()

    def _under_way(self) -> int:
        return self._journal.last_index - self.core.applied_index

    def _stamp(self) -> int | None:
        """The next entry's stamp, or None while too few clocks would agree with it."""
        self.hand_leadership_to = None
        own, now = self._clock.wall_ms(), self._clock.monotonic()
        voters = self._membership.other_voters
        readings = {peer: self._readings[peer] for peer in voters if peer in self._readings}
        if not self._clock.trusted():
            # One wrong clock must not be the whole cluster's: who leads next has another.
            self.hand_leadership_to = slowest(readings, now)
            return None
        stamp_ms = next_stamp(own, self.last_stamp_ms())
        judgement = judge(stamp_ms, own, readings, len(voters) + 1, now)
        if judgement.agreed:
            return stamp_ms
        self.hand_leadership_to = judgement.slowest
        return None

    def _take(self) -> list[Group]:
        taken: list[Group] = []
        size = cost = 0
        for _, group in self._waiting.values():
            size += len(group.payload) + 32
            cost += group.cost
            if taken and (size > self._settings.entry_bytes_max or cost > self._settings.entry_cost_max):
                break
            taken.append(group)
        for group in taken:
            del self._waiting[group.group_id]
        return taken

    def _refuse(self, origin: str, group_id: bytes, reason: str) -> None:
        if origin == self._member_id:
            self.refused(group_id)
        else:
            self._wire.post(origin, HandOverRefused((group_id,), reason))
