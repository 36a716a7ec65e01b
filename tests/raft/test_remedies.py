"""The tests of the hazards are worth something: with a remedy taken out, its test fails."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import pysyncobj.pickle as engine_pickle
import pysyncobj.syncobj as engine_module
import pytest

from cluster.raft import applying, follower, matching, progress
from cluster.raft.acquaintance import Acquaintance
from cluster.raft.elections import Elections
from cluster.raft.errors import RaftError
from cluster.raft.log import EngineLog
from cluster.raft.proposals import Proposals
from cluster.raft.pysyncobj_patches import Core
from cluster.raft.snapshot_transfer import SnapshotReceiver
from cluster.raft.votes import Ballot
from datastore.errors import DatastoreError
from datastore.journal_output import ChangeSealer
from tests.raft import test_hazards_durability as durable
from tests.raft import test_hazards_elections as elects
from tests.raft import test_hazards_engine as engines
from tests.raft import test_hazards_matching as matches
from tests.raft import test_hazards_snapshots as snaps
from tests.raft.remedies import (
    TakeOut,
    a_failed_sync_is_tried_again,
    a_reset_clears_before_it_writes,
    a_snapshot_is_acknowledged_when_it_has_arrived,
    a_wish_for_an_election_is_not_remembered,
    any_entry_passes,
    any_term_counts,
    every_message_carries_the_commit_index,
    first,
    frames_carry_the_term_of_their_leaving,
    frames_do_not_wait,
    heartbeats_get_no_answer,
    known_entries_are_dropped_by_index,
    last_applied_moves_after_apply,
    messages_pass_untouched,
    nothing,
    only_the_log_is_asked_for_the_last_stamp,
    parts_are_read_whenever_asked,
    parts_are_stored_as_they_come,
    prev_moves_to_the_own_tail,
    proposals_wait_in_the_engines_queue,
    replacing,
    stamps_begin_anew,
    strangers_are_heard,
    the_engine_applies,
    the_engine_changes_members,
    the_engine_compacts,
    the_engine_may_start_without_itself,
    the_engine_notifies,
    the_engine_sends_entries,
    the_fallback_is_the_engines_own,
    the_journal_takes_any_index,
    the_leader_counts_its_memory,
    the_stored_commit_index_is_believed,
)


@dataclass(frozen=True, slots=True)
class Remedy:
    row: int
    test: Callable[[], None]
    take_out: TakeOut

    @property
    def name(self) -> str:
        return f"{self.test.__name__.removeprefix('test_hazard_')}-{self.take_out.__name__}"


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

ROWS = range(1, 34)
SUITES = (matches, elects, durable, snaps, engines)


@pytest.mark.parametrize("remedy", REMEDIES, ids=lambda remedy: remedy.name)
def test_without_the_remedy_the_hazard_shows(remedy: Remedy, monkeypatch: pytest.MonkeyPatch) -> None:
    remedy.take_out(monkeypatch)
    # A broken check of the test, or an invariant of ours that is broken on the way: nothing else counts as showing.
    with pytest.raises((AssertionError, RaftError, DatastoreError, pytest.fail.Exception)):
        remedy.test()


def test_every_hazard_has_a_remedy_that_is_missed() -> None:
    assert sorted({remedy.row for remedy in REMEDIES}) == list(ROWS)
    for remedy in REMEDIES:
        assert remedy.test.__name__.startswith(f"test_hazard_{remedy.row:02d}_")


def test_every_hazard_has_a_test_of_its_name() -> None:
    names = {name for suite in SUITES for name, _ in inspect.getmembers(suite, inspect.isfunction)}
    for row in ROWS:
        assert any(name.startswith(f"test_hazard_{row:02d}_") for name in names), row
