"""Progress, votes, stamps, agreement and acquaintance: pure, so that a table of steps says all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.acquaintance import Acquaintance
from cluster.raft.agreement import CHECKPOINT, CHECKPOINTS_KEPT, Agreement, Verdict
from cluster.raft.progress import Mode, Progress
from cluster.raft.timestamps import Judgement, Reading, judge, majority_offset_ms, next_stamp
from cluster.raft.votes import Ballot, majority, up_to_date

ONE, OTHER, THIRD = bytes(32), b"\x01" * 32, b"\x02" * 32


# -- progress ---------------------------------------------------------------------------------------------------------
def test_a_probe_sends_once_and_waits() -> None:
    progress = Progress(5)
    assert progress.may_send(1.0, 0.1)
    progress.sent_entries(8, 100, 1.0)
    assert not progress.may_send(1.05, 0.1)
    assert progress.may_send(1.1, 0.1)
    assert progress.next == 5


def test_an_accepted_probe_goes_on_ahead_of_the_acknowledgements() -> None:
    progress = Progress(5)
    progress.accepted(7, 1.0)
    assert (progress.mode, progress.match, progress.next) == (Mode.REPLICATE, 7, 8)
    progress.sent_entries(9, 50, 1.0)
    progress.sent_entries(12, 70, 1.0)
    assert (progress.next, progress.in_flight_bytes) == (13, 120)
    progress.accepted(9, 1.1)
    assert progress.in_flight_bytes == 70
    progress.accepted(12, 1.2)
    assert progress.in_flight_bytes == 0


def test_a_rejection_leads_back_within_bounds() -> None:
    progress = Progress(50)
    progress.accepted(7, 1.0)
    progress.sent_entries(60, 10, 1.0)
    progress.rejected(2, 60, 1.1)
    assert (progress.mode, progress.next, progress.in_flight_bytes) == (Mode.PROBE, 8, 0)
    progress.rejected(99, 60, 1.1)
    assert progress.next == 61


def test_what_brings_no_acknowledgement_is_sent_again() -> None:
    progress = Progress(5)
    progress.accepted(4, 1.0)
    progress.sent_entries(9, 50, 2.0)
    assert not progress.stalled(2.4, 0.5)
    assert progress.stalled(2.6, 0.5)
    progress.go_back()
    assert (progress.mode, progress.next, progress.waiting) == (Mode.PROBE, 5, False)


def test_a_filled_follower_goes_on_behind_the_snapshot() -> None:
    progress = Progress(5)
    progress.installing(40)
    progress.rejected(3, 60, 1.0)
    assert progress.mode is Mode.SNAPSHOT
    progress.accepted(4, 1.0)
    assert progress.mode is Mode.SNAPSHOT
    progress.accepted(40, 1.0)
    assert (progress.mode, progress.next) == (Mode.REPLICATE, 41)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), st.integers(1, 5)),
        st.tuples(st.just("accepted"), st.integers(0, 100)),
        st.tuples(st.just("rejected"), st.integers(0, 200)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("stalled"), st.just(0)),
        st.tuples(st.just("snapshot"), st.integers(1, 100)),
        st.tuples(st.just("given up"), st.just(0)),
    ),
    max_size=40,
)


@given(steps)
def test_next_stays_between_match_and_the_end_of_the_log(given_steps: list[tuple[str, int]]) -> None:
    last_index = 100
    progress = Progress(last_index + 1)
    for step, number in given_steps:
        match step:
            case "sent":
                if progress.next <= last_index and progress.mode is not Mode.SNAPSHOT:
                    progress.sent_entries(min(progress.next + number - 1, last_index), 10 * number, 1.0)
            case "accepted":
                progress.accepted(number, 1.0)
            case "rejected":
                progress.rejected(number, last_index, 1.0)
            case "lost":
                progress.lost_contact()
            case "stalled":
                progress.go_back()
            case "snapshot":
                progress.installing(max(number, progress.match))
            case "given up":
                progress.installed_or_given_up(last_index)
        assert progress.match < progress.next <= last_index + 1
        assert progress.in_flight_bytes >= 0
        assert progress.mode is Mode.REPLICATE or progress.in_flight_bytes == 0


# -- votes ------------------------------------------------------------------------------------------------------------
def test_a_member_votes_once_and_only_in_the_term() -> None:
    ballot = Ballot(3, 0.0)
    assert ballot.grant("b", 3)
    assert not ballot.grant("b", 3)
    assert not ballot.grant("c", 2)
    assert ballot.granted_by == {"b"}


def test_more_than_half() -> None:
    assert [majority(members) for members in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]


def test_which_log_is_up_to_date() -> None:
    """Section 5.4.1: the later term first, then the length."""
    assert up_to_date(3, 5, 2, 90)
    assert up_to_date(3, 5, 3, 5)
    assert not up_to_date(3, 4, 3, 5)
    assert not up_to_date(2, 90, 3, 5)


# -- stamps -----------------------------------------------------------------------------------------------------------
def readings(now: float, **offsets_ms: int) -> dict[str, Reading]:
    return {name: Reading(100_000 + offset, now) for name, offset in offsets_ms.items()}


@pytest.mark.parametrize(
    ("offsets_ms", "agreed", "slowest"),
    [
        ({"b": 0, "c": 0}, True, None),
        ({"b": -2000, "c": -9000}, True, None),
        ({"b": -3000, "c": -2001}, False, "b"),
        ({"b": -3000}, False, "b"),
        ({}, False, None),
        ({"b": 60_000}, True, None),
    ],
)
def test_a_majority_must_not_be_far_behind(offsets_ms: dict[str, int], agreed: bool, slowest: str | None) -> None:
    assert judge(100_000, 100_000, readings(5.0, **offsets_ms), 3, 5.0) == Judgement(agreed, slowest)


def test_an_old_reading_counts_nothing() -> None:
    assert not judge(100_000, 100_000, readings(5.0, b=0, c=0), 3, 6.1).agreed


def test_a_reading_goes_on_with_our_monotonic_clock() -> None:
    assert Reading(100_000, 5.0).estimate_ms(5.8) == 100_800


def test_a_stamp_never_goes_back() -> None:
    assert next_stamp(5, 9) == 9
    assert next_stamp(12, 9) == 12


def test_the_last_stamp_may_be_too_far_ahead_of_every_clock() -> None:
    assert not judge(103_000, 100_000, readings(5.0, b=0, c=0), 3, 5.0).agreed


def test_our_offset_is_from_the_median_of_a_majority() -> None:
    assert majority_offset_ms(100_000, readings(5.0, b=-300, c=-500), 3, 5.0) == 300
    assert majority_offset_ms(100_000, {}, 3, 5.0) is None
    assert majority_offset_ms(100_000, {}, 1, 5.0) == 0


# -- agreement --------------------------------------------------------------------------------------------------------
def test_two_of_three_are_right() -> None:
    agreement = Agreement(3)
    assert agreement.applied(CHECKPOINT, ONE) is Verdict.UNDECIDED
    assert agreement.heard("b", CHECKPOINT, OTHER) is Verdict.DIFFERENT
    assert agreement.disputed_index == CHECKPOINT
    assert agreement.heard("c", CHECKPOINT, OTHER) is Verdict.MINORITY


def test_who_has_the_majority_stays() -> None:
    agreement = Agreement(3)
    agreement.applied(CHECKPOINT, ONE)
    assert agreement.heard("b", CHECKPOINT, ONE) is Verdict.EQUAL
    assert agreement.heard("c", CHECKPOINT, OTHER) is Verdict.DIFFERENT


def test_three_opinions_are_no_majority() -> None:
    agreement = Agreement(3)
    agreement.applied(CHECKPOINT, ONE)
    agreement.heard("b", CHECKPOINT, OTHER)
    assert agreement.heard("c", CHECKPOINT, THIRD) is Verdict.DIFFERENT


def test_what_peers_said_before_is_compared_when_it_is_applied() -> None:
    agreement = Agreement(3)
    agreement.heard("b", CHECKPOINT, OTHER)
    agreement.heard("c", CHECKPOINT, OTHER)
    assert agreement.applied(CHECKPOINT, ONE) is Verdict.MINORITY


def test_the_disputed_index_is_what_one_speaks_of() -> None:
    agreement = Agreement(3)
    agreement.applied(CHECKPOINT, ONE)
    agreement.heard("b", CHECKPOINT, OTHER)
    agreement.applied(2 * CHECKPOINT, ONE)
    told = [agreement.announcement() for _ in range(6)]
    assert told.count((CHECKPOINT, ONE)) == 4
    assert told.count((2 * CHECKPOINT, ONE)) == 2, "a settled difference hides no other"
    agreement.forget()
    assert agreement.announcement() is None


def test_only_checkpoints_are_kept_and_few_of_them() -> None:
    agreement = Agreement(3)
    for index in range(1, (CHECKPOINTS_KEPT + 10) * CHECKPOINT):
        agreement.applied(index, ONE)
        agreement.heard("b", index + 10**6, ONE)
    assert len(agreement._own) == CHECKPOINTS_KEPT
    assert len(agreement._theirs) <= CHECKPOINTS_KEPT
    assert agreement.heard("b", CHECKPOINT, OTHER) is Verdict.UNDECIDED


# -- acquaintance -----------------------------------------------------------------------------------------------------
def test_a_restart_with_all_that_was_seen_is_welcome() -> None:
    peer = Acquaintance()
    assert peer.admit(b"1", 3, 10, 4)
    peer.acknowledged(4, 12)
    assert peer.admit(b"2", 4, 12, 4)


def test_a_restart_in_an_older_term_is_refused() -> None:
    peer = Acquaintance()
    peer.admit(b"1", 3, 10, 4)
    assert not peer.admit(b"2", 3, 10, 3)
    assert not peer.admit(b"2", 3, 10, 9), "what it says later changes nothing"


def test_a_restart_with_less_than_it_acknowledged_is_refused() -> None:
    peer = Acquaintance()
    peer.admit(b"1", 4, 10, 4)
    peer.acknowledged(4, 12)
    assert not peer.admit(b"2", 4, 11, 4)


def test_a_shorter_log_in_a_later_term_may_have_been_cut_by_its_leader() -> None:
    peer = Acquaintance()
    peer.admit(b"1", 4, 10, 4)
    peer.acknowledged(4, 12)
    assert peer.admit(b"2", 5, 9, 5)


def test_late_frames_of_an_earlier_process_keep_nobody_out() -> None:
    peer = Acquaintance()
    assert peer.admit(b"2", 3, 10, 3)
    assert peer.admit(b"1", 3, 9, 3)  # the first frame of an earlier process, which comes late
    assert peer.admit(b"2", 3, 10, 6)
    assert not peer.admit(b"0", 2, 9, 2), "one that is taken for a copy is refused, and nobody else"
    assert peer.admit(b"2", 3, 10, 7)
