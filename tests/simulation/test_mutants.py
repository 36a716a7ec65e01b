"""The simulation can fail: each remedy that is taken out on purpose is noticed, with the right complaint.

A mutant replaces one function. It must be caught within SEEDS_MAX histories of full severity.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from cluster.node.proposer import Proposer
from cluster.raft import changes, follower
from cluster.raft.changes import Changes
from cluster.raft.log import EngineLog
from cluster.raft.matching import Matched, Rejected
from cluster.raft.membership import Configuration
from cluster.raft.proposals import Proposals
from cluster.raft.replication import Replication
from cluster.raft.wire import Wire
from cluster.state import tokens
from cluster.state.requests import RequestMemory
from cluster.state.results import Result
from datastore.journal import JournalEntry, PendingSync
from factors.lockout import Lockout, record_failure
from tests.simulation.history import run_seed
from tests.simulation.memory_files import MemoryFile, MemoryFiles

pytestmark = pytest.mark.timeout(900)  # a busy machine takes its time; nothing here is timed
SEEDS_MAX = 12

Patch = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    post = Wire.post

    def at_once(self: Wire, member: str, body: Any, *, claims: bool = False) -> None:
        post(self, member, body)

    patch.setattr(Wire, "post", at_once)


def count_the_leaders_unsynced_self(patch: pytest.MonkeyPatch) -> None:
    def from_memory(self: Replication, peer: str, *, alive_only: bool = False, heard: bool = True) -> None:
        match = self.progress[peer].match
        if peer not in self._membership.other_voters:
            return
        self.core.acknowledge(peer, None if alive_only or not match else match, heard=heard)

    patch.setattr(Replication, "_tell_engine", from_memory)
    patch.setattr(Replication, "_committed", property(lambda self: self.core.commit_index))


def take_out_two_members_at_once(patch: pytest.MonkeyPatch) -> None:
    def without(self: Configuration, member_id: str) -> Configuration:
        voters = [voter for voter in self.voters if voter != member_id]
        return Configuration(tuple(voters[:-1] if len(voters) > 1 else voters), self.learners)

    patch.setattr(Configuration, "without", without)
    patch.setattr(changes, "objection", lambda current, new: None)
    patch.setattr(Changes, "_objection", lambda self, new: None if self.core.is_leader else "this node does not lead")


def vote_before_the_vote_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    def in_memory(self: EngineLog, term: int, voted_for: str | None) -> None:
        journal = self._journal
        journal.current_term, journal.voted_for = term, voted_for

    patch.setattr(EngineLog, "setCurrentTerm", in_memory)


def remove_a_tail_that_nobody_contradicted(patch: pytest.MonkeyPatch) -> None:
    def untrimmed(
        prev_index: int, prev_term: int, entries: list[JournalEntry], log: Any, commit_index: int
    ) -> Rejected | Matched:
        if log.term_at(prev_index) != prev_term:
            return Rejected(commit_index + 1)
        index = entries[-1].index if entries else prev_index
        return Matched(index, prev_index, prev_term, tuple(entries))

    patch.setattr(follower, "match", untrimmed)


def stamp_with_the_own_clock_alone(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Proposals, "_stamp", lambda self: self._clock.wall_ms())


def forget_request_ids(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RequestMemory, "find", lambda self, *request: None)


def leave_the_counter_where_it_is(patch: pytest.MonkeyPatch) -> None:
    used = tokens.used
    patch.setattr(tokens, "used", lambda token, position, now_ms: replace(used(token, position, now_ms), counter=0))


def leave_the_step_open(patch: pytest.MonkeyPatch) -> None:
    used = tokens.used
    patch.setattr(tokens, "used", lambda token, position, now_ms: replace(used(token, position, now_ms), last_step=-1))


def count_a_failure_twice(patch: pytest.MonkeyPatch) -> None:
    def twice(lockout: Lockout, now_ms: int, policy: Any) -> Lockout:
        return record_failure(record_failure(lockout, now_ms, policy), now_ms, policy)

    patch.setattr("cluster.state.authentication.record_failure", twice)


def count_no_failures(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("cluster.state.authentication.record_failure", lambda lockout, now_ms, policy: lockout)


def call_a_sync_done_that_never_ran(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PendingSync, "run", lambda self: setattr(self, "done", True))


def write_without_syncing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryFile, "sync", lambda self: None)


def rename_without_syncing_the_directory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryFiles, "sync_directory", lambda self, path: None)


def answer_any_group_that_waits(patch: pytest.MonkeyPatch) -> None:
    applied = Proposer.applied

    def careless(self: Proposer[Result], group_id: bytes, results: Sequence[Result]) -> None:
        fitting = [name for name, group in self._groups.items() if len(group.commands) == len(results)]
        applied(self, group_id if group_id in self._groups or not fitting else fitting[0], results)

    patch.setattr(Proposer, "applied", careless)


MUTANTS: dict[Patch, str] = {
    acknowledge_before_the_sync: "disks",
    count_the_leaders_unsynced_self: "disks",
    take_out_two_members_at_once: "more than one voter",
    vote_before_the_vote_is_on_disk: "lead in term|two leaders|applied another|logs of|RolledBack|SafetyViolation",
    remove_a_tail_that_nobody_contradicted: "SafetyViolation|disks|committed",
    stamp_with_the_own_clock_alone: "went back|future",
    forget_request_ids: "at first, then|spent",
    leave_the_counter_where_it_is: "spent",
    leave_the_step_open: "spent",
    count_a_failure_twice: "locked, and was told",
    count_no_failures: "locked, and was told",
    call_a_sync_done_that_never_ran: ".",
    write_without_syncing: ".",
    rename_without_syncing_the_directory: ".",
    answer_any_group_that_waits: "the log says|then|not in the log",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant(monkeypatch)
    for seed in range(SEEDS_MAX):
        outcome = run_seed(seed, nodes=3, severity=1.0)
        if outcome.failure is not None:
            break
    monkeypatch.undo()
    assert outcome.failure is not None, "the mutant survived"
    assert re.search(MUTANTS[mutant], outcome.failure), outcome.failure
