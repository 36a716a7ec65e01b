"""What the engine must not do by itself, and how entries are proposed and applied."""

from __future__ import annotations

import contextlib
import pickle
import socket
from typing import Any

import pytest

from cluster.raft.engine import RaftSettings
from cluster.raft.errors import SafetyViolation
from cluster.raft.messages import Append, AppendReply, HandOver, HandOverRefused, Heartbeat
from tests.raft.stage import EPOCH_MS, Stage, entries, entry, group


def test_hazard_06_the_engine_unpickles_nothing() -> None:
    stage = Stage("a", "abc")
    data = pickle.dumps((entry(b"x"), 2, 1))
    message: dict[str, Any] = {"type": "append_entries", "term": 1, "commit_index": 1, "prevLogIdx": 1}
    message["prevLogTerm"] = 0
    stage["a"].core.enter()
    stage["a"].core.deliver("b" * 32, {**message, "transmission": "start", "data": data[:9]})
    with pytest.raises(SafetyViolation, match="unpickle"):
        stage["a"].core.deliver("b" * 32, {**message, "transmission": "finish", "data": data[9:]})
    assert stage["a"].journal.last_index == 1


def test_hazard_09_what_is_larger_than_an_entry_is_refused_at_the_door() -> None:
    stage = Stage("abc", settings=RaftSettings(entry_bytes_max=100_000))
    a = stage.elect("a")
    large, largest = group(bytes(100_001)), group(bytes(100_000))
    last = a.journal.last_index
    a.engine.hand_over(large)
    assert a.refused == [large.group_id]
    assert a.journal.last_index == last
    a.engine.hand_over(largest)
    stage.run(0.2)
    assert stage["b"].machine.payloads == [largest.payload]


def test_hazard_09_large_entries_arrive_whole() -> None:
    stage = Stage("abc")
    stage.elect("a")
    payloads = [bytes([n]) * (65_536 * n // 4 + n) for n in range(1, 17)]
    stage.propose("a", *payloads)
    stage.run(0.2)
    assert stage["b"].machine.payloads == stage["c"].machine.payloads == payloads


def test_hazard_11_an_entry_whose_apply_fails_is_not_applied_again() -> None:
    stage = Stage("a", "abc")
    told: list[int] = []

    def fail(index: int) -> None:
        told.append(index)
        raise RuntimeError("a bug in apply")

    stage["a"].machine.on_apply = fail
    stage.say("b", "a", Append(1, 0, 2, entries(1, b"2")), 1)
    stage.sync()
    for _ in range(3):
        with contextlib.suppress(RuntimeError):
            stage.tick()
    assert told == [2]


def test_hazard_12_what_a_deposed_leader_can_not_append_is_refused_by_its_group_id() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    term = stage.lead("a")
    groups = [group(b"%d" % n) for n in range(6)]
    for given in groups:
        a.engine.hand_over(given)
    appended = a.journal.last_index
    stage.say("c", "a", HandOver(((b"c" * 16, b"c's", 1),)), term)
    stage.say("b", "a", Heartbeat(), term + 1)
    stage.sync()
    refused = [given.group_id for given in groups if given.group_id in a.refused]
    assert refused, "they were told, instead of waiting for ever"
    assert a.refused == refused
    assert HandOverRefused((b"c" * 16,), "not leader") in stage.sent(HandOverRefused, "c")
    assert a.journal.last_index == appended


def test_hazard_12_the_engine_keeps_no_callers_and_numbers_no_requests() -> None:
    stage = Stage("abc")
    stage.elect("a")
    stage.run(0.3)
    given = group(b"from b")
    assert stage["b"].engine.hand_over(given)
    assert stage.sent(HandOver, "a") == [HandOver(((given.group_id, given.payload, 1),))]
    stage.settle()
    for actor in stage.actors.values():
        assert not actor.core._SyncObj__commandsWaitingReply
        assert not actor.core._SyncObj__commandsWaitingCommit


def test_hazard_13_a_proposal_is_appended_at_once_and_nobody_is_notified() -> None:
    stage = Stage("a", "abc")
    stage.lead("a")
    before = stage["a"].journal.last_index
    stage["a"].engine.hand_over(group(b"x"))
    assert stage["a"].journal.last_index == before + 1
    assert not hasattr(stage["a"].core, "_SyncObj__pipeNotifier")


def test_hazard_24_the_engine_opens_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    stage = Stage("abc")
    stage.elect("a")


def test_hazard_30_an_entry_is_appended_in_the_call_that_stamped_it() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    term = stage.lead("a")
    a.engine.hand_over(group(b"x"))
    index = a.journal.last_index
    stage.say("b", "a", Heartbeat(), term + 1)  # deposed before the next tick
    stage.lead("a")
    stage.tick()
    held = [(found.index, found.term) for found in a.log if b"x" in found.data]
    assert held == [(index, term)], "not in a later term with an old stamp"


def test_hazard_31_apply_knows_index_and_term_and_leaves_the_loop_time() -> None:
    stage = Stage("a", "abc")
    a = stage["a"]
    count = 60

    def take_time(_: int) -> None:
        stage.time.now += 0.001

    a.machine.on_apply = take_time
    stage.say("b", "a", Append(1, 0, count + 1, entries(3, *(b"%d" % n for n in range(count)))), 3)
    stage.sync()
    stage.tick()
    assert 0 < len(a.machine.log) <= 8
    assert a.engine.busy
    while a.engine.busy:
        stage.tick()
    assert [(told.index, told.term) for told in a.machine.log] == [(n, 3) for n in range(2, count + 2)]


def test_hazard_32_time_never_goes_back_whoever_leads() -> None:
    stage = Stage("abc")
    a, b = stage["a"], stage["b"]
    stage.elect("a")
    stage.propose("a", b"x")
    stage.run(0.3)
    stamp = a.machine.log[-1].stamp_ms
    for actor in stage.actors.values():
        actor.clock.offset_ms = -3000
    stage.isolate("a")
    stage.elect("b")
    b.journal.compact(b.machine.applied.index - 1)  # only the no-op, which has no stamp, is left
    stage.run(0.3)
    stage.propose("b", b"y")
    assert [told.payloads for told in b.machine.log[-1:]] == [(b"y",)]
    assert b.machine.log[-1].stamp_ms >= stamp
    stamps = [told.stamp_ms for told in b.machine.log]
    assert stamps == sorted(stamps)


def test_hazard_32_time_never_goes_back_behind_a_data_file() -> None:
    stage = Stage("a", "a")
    a = stage["a"]
    stage.run(2.0)
    stage.propose("a", b"x")
    stamp = a.machine.applied.stamp_ms
    assert stamp > EPOCH_MS
    a.shelf.take(1)
    a.journal.compact(a.machine.applied.index)
    a.clock.offset_ms = -1500
    stage.propose("a", b"y")
    assert a.machine.log[-1].stamp_ms >= stamp


def test_hazard_14_a_leaders_own_acknowledgement_is_of_its_own_term() -> None:
    """Paper, section 5.4.2: an entry of an earlier term is committed only together with one of the own."""
    stage = Stage("a", "abc")
    a = stage["a"]
    stage.say("b", "a", Append(1, 0, 1, entries(1, b"old")), 1)
    stage.sync()
    term = stage.lead("a", "c")
    stage.say("c", "a", AppendReply(True, 2), term)
    stage.tick()
    assert a.machine.log == []
    stage.say("c", "a", AppendReply(True, 3), term)
    stage.tick()
    assert a.machine.payloads == [b"old"]
