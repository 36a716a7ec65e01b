"""For each hazard: the tests that show it closed, and how its remedy is taken out, so that they must fail.

What is put in a remedy's place is either the engine's own code or the simplest thing that one would have written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pysyncobj.pickle as engine_pickle
import pysyncobj.syncobj as engine_module
import pytest
from pysyncobj.syncobj import SyncObj

from cluster.raft import applying, follower, matching, progress, pysyncobj_patches
from cluster.raft.acquaintance import Acquaintance
from cluster.raft.applying import Applier
from cluster.raft.elections import Elections
from cluster.raft.engine import Engine
from cluster.raft.follower import Follower
from cluster.raft.log import EngineLog
from cluster.raft.matching import Matched
from cluster.raft.messages import AppendReply
from cluster.raft.proposals import Proposals
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.replication import Replication
from cluster.raft.snapshot_transfer import SnapshotReceiver, SnapshotSender
from cluster.raft.votes import Ballot
from cluster.raft.wire import Wire, _Held
from datastore.journal import Journal
from datastore.journal_output import ChangeSealer, SegmentOutput
from tests.raft import (
    test_hazards_durability,
    test_hazards_elections,
    test_hazards_engine,
    test_hazards_matching,
    test_hazards_snapshots,
)

Patch = pytest.MonkeyPatch
TakeOut = Callable[[Patch], None]


@dataclass(frozen=True, slots=True)
class Remedy:
    row: int
    test: Callable[[], None]
    take_out: TakeOut

    @property
    def name(self) -> str:
        return f"{self.test.__name__.removeprefix('test_hazard_')}-{self.take_out.__name__}"


def replacing(owner: Any, name: str, value: Any) -> TakeOut:
    def take_out(patch: Patch) -> None:
        patch.setattr(owner, name, value, raising=name not in ("min", "max"))

    take_out.__name__ = f"{getattr(owner, '__name__', '').split('.')[-1]}.{name}"
    return take_out


def nothing(*_: Any, **__: Any) -> None:
    """In the place of a method that does something."""


def first(one: int, _: int) -> int:
    """In the place of `min` or `max`: no bound."""
    return one


def messages_pass_untouched(patch: Patch) -> None:
    """The engine gets the leader's message as it came, and deletes whatever stands behind `prev`."""

    def untouched(self: Follower, peer: str, term: int, matched: Matched, commit_index: int) -> None:
        self._acknowledges = matched
        message = {"type": "append_entries", "term": term, "commit_index": min(commit_index, matched.index)}
        prev = {"prevLogIdx": matched.prev_index, "prevLogTerm": matched.prev_term}
        self.core.deliver(peer, {**message, **prev, "entries": list(matched.entries)})

    patch.setattr(
        follower,
        "match",
        lambda prev, term, entries, log, commit: Matched(
            entries[-1].index if entries else prev, prev, term, tuple(entries)
        ),
    )
    patch.setattr(Follower, "_append", untouched)


def prev_moves_to_the_own_tail(patch: Patch) -> None:
    """The simple remedy, which acknowledges what was never compared."""
    real = matching.match

    def match(prev: int, term: int, entries: Any, log: Any, commit: int) -> Any:
        outcome = real(prev, term, entries, log, commit)
        if isinstance(outcome, Matched) and not outcome.entries:
            return Matched(log.last_index, log.last_index, log.last_term, ())
        return outcome

    patch.setattr(follower, "match", match)


def known_entries_are_dropped_by_index(patch: Patch) -> None:
    """A conflict goes unnoticed: what stands at the same index is taken for the same."""

    def match(prev: int, term: int, entries: Any, log: Any, commit: int) -> Any:
        new = tuple(entry for entry in entries if entry.index > log.last_index)
        return Matched(entries[-1].index if entries else prev, log.last_index, log.last_term, new)

    patch.setattr(follower, "match", match)


def frames_carry_the_term_of_their_leaving(patch: Patch) -> None:
    real = Wire._send
    patch.setattr(
        Wire,
        "_send",
        lambda self, held: real(self, type(held)(held.needs, held.member, self._journal.current_term, held.body)),
    )


def any_term_counts(patch: Patch) -> None:
    patch.setattr(Replication, "_is_current", lambda self, peer, term: self.core.is_leader and peer in self.progress)


def frames_do_not_wait(patch: Patch) -> None:
    def post(self: Wire, member: str, body: Any, *, claims: bool = False) -> None:
        self._send(_Held(0, member, self._journal.current_term, body))

    patch.setattr(Wire, "post", post)


def the_leader_counts_its_memory(patch: Patch) -> None:
    def tell(self: Replication, peer: str, *, alive_only: bool = False, heard: bool = True) -> None:
        self.core.acknowledge(peer, None if alive_only else self.progress[peer].match, heard=heard)

    patch.setattr(Replication, "_tell_engine", tell)


def a_reset_clears_before_it_writes(patch: Patch) -> None:
    def write(self: SegmentOutput, steps: Any, superseded: Any) -> None:
        for name in superseded:
            self._files.remove(f"{self._directory}/{name}")
        if superseded:
            self._files.sync_directory(self._directory)
        for step in steps:
            if step.new_segment is None:
                assert self._file is not None
                self._file.append(b"".join(step.parts))
                self._file.sync()
            else:
                self._begin(step.new_segment, b"".join(step.parts))

    patch.setattr(SegmentOutput, "write", write)


def the_journal_takes_any_index(patch: Patch) -> None:
    def append(self: Journal, entry: Any) -> None:
        self._entries.append(entry)
        self._change(entry)

    patch.setattr(Journal, "append", append)


def a_failed_sync_is_tried_again(patch: Patch) -> None:
    real = SegmentOutput.write

    def write(self: SegmentOutput, steps: Any, superseded: Any) -> None:
        self._failed = False
        real(self, steps, superseded)

    patch.setattr(SegmentOutput, "write", write)


def the_stored_commit_index_is_believed(patch: Patch) -> None:
    patch.setattr(EngineLog, "getRaftCommitIndex", lambda self: self._journal.last_index)


def the_fallback_is_the_engines_own(patch: Patch) -> None:
    real = pysyncobj_patches.SyncObjConf
    patch.setattr(
        pysyncobj_patches, "SyncObjConf", lambda **options: real(**{**options, "leaderFallbackTimeout": 30.0})
    )


def last_applied_moves_after_apply(patch: Patch) -> None:
    real = Applier._apply

    def apply(self: Applier, index: int) -> None:
        real(self, index)
        self.core._SyncObj__raftLastApplied = index

    patch.setattr(Core, "entry_applied", lambda self: self.applied_index + 1)
    patch.setattr(Applier, "_apply", apply)


def the_engine_notifies(patch: Patch) -> None:
    patch.setattr(engine_module, "PIPE_NOTIFIER_ENABLED", True)


def every_message_carries_the_commit_index(patch: Patch) -> None:
    real = Core.deliver
    patch.setattr(
        Core,
        "deliver",
        lambda self, peer, message: real(
            self, peer, message if "prevLogIdx" in message else {**message, "commit_index": 50}
        ),
    )


def the_engine_changes_members(patch: Patch) -> None:
    real = pysyncobj_patches.SyncObjConf
    patch.setattr(
        pysyncobj_patches, "SyncObjConf", lambda **options: real(**{**options, "dynamicMembershipChange": True})
    )


def a_snapshot_is_acknowledged_when_it_has_arrived(patch: Patch) -> None:
    real = SnapshotReceiver._install

    def install(self: SnapshotReceiver, peer: str, receiving: Any) -> None:
        self._wire.post(peer, AppendReply(True, receiving.meta.index), claims=True)
        real(self, peer, receiving)

    patch.setattr(SnapshotReceiver, "_install", install)


def parts_are_stored_as_they_come(patch: Patch) -> None:
    real = SnapshotReceiver.on_chunk

    def on_chunk(self: SnapshotReceiver, peer: str, term: int, chunk: Any) -> None:
        if self._receiving is not None:
            self._receiving.stored = chunk.offset
        real(self, peer, term, chunk)

    patch.setattr(SnapshotReceiver, "on_chunk", on_chunk)


def parts_are_read_whenever_asked(patch: Patch) -> None:
    def pump(self: SnapshotSender, peer: str) -> bool:
        self._read(peer, self._sending[peer])
        return True

    patch.setattr(SnapshotSender, "pump", pump)


def the_engine_may_start_without_itself(patch: Patch) -> None:
    real = Engine.__init__

    def init(self: Engine, **given: Any) -> None:
        real(self, **{**given, "members": [given["member_id"]]})

    patch.setattr(Engine, "__init__", init)


def heartbeats_get_no_answer(patch: Patch) -> None:
    patch.setattr(Follower, "on_heartbeat", lambda self, peer, term: self.follow(peer, term))


def proposals_wait_in_the_engines_queue(patch: Patch) -> None:
    patch.setattr(Core, "propose", lambda self, data: self._applyCommand(data, None))
    patch.setattr(Proposals, "_under_way", lambda _: 0)


def the_engine_applies(patch: Patch) -> None:
    patch.delattr(Core, "_SyncObj__applyLogEntries")


def the_engine_compacts(patch: Patch) -> None:
    patch.delattr(Core, "_SyncObj__tryLogCompaction")


def the_engine_sends_entries(patch: Patch) -> None:
    """As it does: chunks from its batch size on, and the whole tail after each acknowledgement."""
    patch.setattr(Core, "_SyncObj__sendAppendEntries", SyncObj._SyncObj__sendAppendEntries)


def stamps_begin_anew(patch: Patch) -> None:
    patch.setattr(Proposals, "last_stamp_ms", lambda _: 0)


def only_the_log_is_asked_for_the_last_stamp(patch: Patch) -> None:
    real = Proposals.__init__

    def init(self: Proposals, *given: Any) -> None:
        real(self, *given[:-1], lambda: 0)

    patch.setattr(Proposals, "__init__", init)


def a_wish_for_an_election_is_not_remembered(patch: Patch) -> None:
    patch.setattr(
        Elections,
        "on_timeout_now",
        lambda self, peer, term: self.core.deliver(peer, {"type": "timeout_now", "term": term}),
    )


matches, elects, durable = test_hazards_matching, test_hazards_elections, test_hazards_durability
snaps, engines = test_hazards_snapshots, test_hazards_engine
strangers_are_heard = replacing(Engine, "_admit", lambda *_: True)
any_entry_passes = replacing(follower, "stamp_of", lambda _: None)

REMEDIES: tuple[Remedy, ...] = (
    Remedy(1, matches.test_hazard_01_a_late_append_removes_nothing_that_matches, messages_pass_untouched),
    Remedy(1, matches.test_hazard_01_only_what_was_compared_is_acknowledged_and_committed, prev_moves_to_the_own_tail),
    Remedy(
        1,
        matches.test_hazard_01_what_conflicts_is_replaced_from_the_first_conflict_on,
        known_entries_are_dropped_by_index,
    ),
    Remedy(1, matches.test_hazard_01_a_conflict_at_the_commit_index_is_fatal, known_entries_are_dropped_by_index),
    Remedy(2, matches.test_hazard_02_an_acknowledgement_of_another_term_counts_nothing, any_term_counts),
    Remedy(
        2,
        matches.test_hazard_02_a_frame_carries_the_term_in_which_it_was_made,
        frames_carry_the_term_of_their_leaving,
    ),
    Remedy(3, durable.test_hazard_03_an_acknowledgement_waits_for_the_sync_of_what_it_claims, frames_do_not_wait),
    Remedy(3, durable.test_hazard_03_a_vote_waits_for_its_sync, frames_do_not_wait),
    Remedy(3, durable.test_hazard_03_no_frame_of_a_term_leaves_before_the_term_is_on_disk, frames_do_not_wait),
    Remedy(
        3,
        durable.test_hazard_03_a_leader_counts_itself_only_up_to_what_it_has_synced,
        the_leader_counts_its_memory,
    ),
    Remedy(3, durable.test_hazard_03_nothing_is_applied_beyond_the_synced_index, replacing(applying, "min", first)),
    Remedy(4, durable.test_hazard_04_a_snapshot_replaces_the_log_in_one_step, a_reset_clears_before_it_writes),
    Remedy(4, durable.test_hazard_04_an_entry_is_added_only_behind_the_last_one, the_journal_takes_any_index),
    Remedy(
        5,
        durable.test_hazard_05_a_start_believes_nothing_committed_that_the_data_file_does_not_hold,
        the_stored_commit_index_is_believed,
    ),
    Remedy(6, engines.test_hazard_06_the_engine_unpickles_nothing, replacing(engine_module, "pickle", engine_pickle)),
    Remedy(7, durable.test_hazard_07_a_segment_has_a_limit, replacing(ChangeSealer, "_full", lambda *_: False)),
    Remedy(7, durable.test_hazard_07_memory_leads_the_disk_only_for_what_nobody_was_told, frames_do_not_wait),
    Remedy(8, snaps.test_hazard_08_the_engine_writes_no_dump, the_engine_compacts),
    Remedy(
        9,
        engines.test_hazard_09_what_is_larger_than_an_entry_is_refused_at_the_door,
        replacing(Proposals, "_objection", nothing),
    ),
    Remedy(9, engines.test_hazard_09_large_entries_arrive_whole, the_engine_sends_entries),
    Remedy(
        10,
        elects.test_hazard_10_an_isolated_member_does_not_raise_its_term,
        replacing(Elections, "may_campaign", lambda _: True),
    ),
    Remedy(
        10,
        elects.test_hazard_10_no_vote_against_a_live_leader,
        replacing(Elections, "leader_is_live", lambda _: False),
    ),
    Remedy(
        10,
        elects.test_hazard_10_a_leader_of_an_older_term_learns_of_it,
        replacing(Elections, "on_outdated", nothing),
    ),
    Remedy(
        10,
        elects.test_hazard_10_a_leader_without_a_majority_gives_up_in_an_election_timeout,
        the_fallback_is_the_engines_own,
    ),
    Remedy(11, engines.test_hazard_11_an_entry_whose_apply_fails_is_not_applied_again, last_applied_moves_after_apply),
    Remedy(
        12,
        engines.test_hazard_12_what_a_deposed_leader_can_not_append_is_refused_by_its_group_id,
        replacing(Proposals, "refuse_all", nothing),
    ),
    Remedy(13, engines.test_hazard_13_a_proposal_is_appended_at_once_and_nobody_is_notified, the_engine_notifies),
    Remedy(
        14,
        matches.test_hazard_14_nothing_is_committed_by_a_message_that_compares_nothing,
        every_message_carries_the_commit_index,
    ),
    Remedy(
        14,
        matches.test_hazard_14_a_commit_index_beyond_what_matches_is_capped,
        replacing(follower, "min", first),
    ),
    Remedy(15, elects.test_hazard_15_a_vote_counts_once, replacing(Ballot, "grant", lambda *_: True)),
    Remedy(15, elects.test_hazard_15_a_stranger_has_no_vote, strangers_are_heard),
    Remedy(16, matches.test_hazard_16_a_change_of_members_in_the_log_is_refused_at_the_door, any_entry_passes),
    Remedy(16, matches.test_hazard_16_the_engine_changes_no_members, the_engine_changes_members),
    Remedy(17, durable.test_hazard_17_a_failed_sync_is_final, a_failed_sync_is_tried_again),
    Remedy(18, durable.test_hazard_18_the_engine_can_clear_nothing, replacing(EngineLog, "clear", nothing)),
    Remedy(19, snaps.test_hazard_19_a_snapshot_with_a_part_missing_is_not_acknowledged, parts_are_stored_as_they_come),
    Remedy(
        19,
        snaps.test_hazard_19_a_snapshot_that_can_not_be_read_is_not_acknowledged,
        a_snapshot_is_acknowledged_when_it_has_arrived,
    ),
    Remedy(
        19,
        snaps.test_hazard_19_a_snapshot_is_acknowledged_only_once_installed_and_synced,
        a_snapshot_is_acknowledged_when_it_has_arrived,
    ),
    Remedy(
        20,
        snaps.test_hazard_20_a_late_snapshot_takes_nothing_back,
        replacing(SnapshotReceiver, "_has", lambda *_: False),
    ),
    Remedy(
        21,
        matches.test_hazard_21_a_rejection_leads_only_into_the_leaders_log,
        replacing(progress, "min", first),
    ),
    Remedy(
        21,
        matches.test_hazard_21_a_late_rejection_leads_not_below_what_matches,
        replacing(progress, "max", first),
    ),
    Remedy(22, snaps.test_hazard_22_a_follower_behind_costs_a_tick_no_more_than_a_part, parts_are_read_whenever_asked),
    Remedy(23, matches.test_hazard_23_an_entry_for_another_code_version_is_refused_at_the_door, any_entry_passes),
    Remedy(24, elects.test_hazard_24_a_stranger_is_no_leader_and_no_connection, strangers_are_heard),
    Remedy(25, snaps.test_hazard_25_the_engine_compacts_nothing, replacing(EngineLog, "deleteEntriesTo", nothing)),
    Remedy(25, snaps.test_hazard_25_a_follower_slightly_late_needs_no_snapshot, the_engine_compacts),
    Remedy(
        26,
        elects.test_hazard_26_nobody_elects_itself_but_in_a_cluster_of_one,
        the_engine_may_start_without_itself,
    ),
    Remedy(
        27,
        matches.test_hazard_27_a_long_conflict_is_found_in_a_round_trip_a_term,
        replacing(matching, "_first_of_term", lambda _, index, __: index),
    ),
    Remedy(
        28,
        elects.test_hazard_28_a_member_that_came_back_with_less_is_refused,
        replacing(Acquaintance, "_is_behind", lambda *_: False),
    ),
    Remedy(29, elects.test_hazard_29_a_leader_whose_only_follower_is_being_filled_stays, heartbeats_get_no_answer),
    Remedy(29, snaps.test_hazard_29_a_follower_that_is_being_filled_answers, heartbeats_get_no_answer),
    Remedy(
        30,
        engines.test_hazard_30_an_entry_is_appended_in_the_call_that_stamped_it,
        proposals_wait_in_the_engines_queue,
    ),
    Remedy(31, engines.test_hazard_31_apply_knows_index_and_term_and_leaves_the_loop_time, the_engine_applies),
    Remedy(32, engines.test_hazard_32_time_never_goes_back_whoever_leads, stamps_begin_anew),
    Remedy(
        32,
        engines.test_hazard_32_time_never_goes_back_behind_a_data_file,
        only_the_log_is_asked_for_the_last_stamp,
    ),
    Remedy(
        33,
        elects.test_hazard_33_a_wished_for_election_is_recognised_by_the_voters,
        a_wish_for_an_election_is_not_remembered,
    ),
    Remedy(
        33,
        elects.test_hazard_33_a_transfer_that_came_to_nothing_does_not_keep_the_timer_from_being_reset,
        replacing(Core, "clear_transfer", nothing),
    ),
)
