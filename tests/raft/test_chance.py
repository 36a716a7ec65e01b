"""What a network of chance and cuts of the power may do to a cluster, and what they may not."""

from __future__ import annotations

import random

import pytest

from cluster.raft.engine import RaftSettings
from tests.raft.actor import AppliedEntry
from tests.raft.stage import Stage, group, member


@pytest.mark.parametrize("seed", range(10))
def test_whatever_the_network_and_the_power_do_the_logs_agree(seed: int) -> None:
    """Loss, duplication, any order, power cuts, snapshots, transfers; then peace, in which all must come together."""
    stage = Stage("abcde" if seed % 5 == 4 else "abc", seed=seed, settings=RaftSettings(snapshot_chunk_bytes=150))
    chance = random.Random(seed)
    history: dict[int, tuple[bytes, ...]] = {}
    leaders: dict[int, str] = {}
    for step in range(2500):
        stage.time.now += 0.005
        _disturb(stage, chance, step)
        for name, actor in stage.actors.items():
            actor.engine.tick()
            if chance.random() < 0.7:
                actor.sync()
            _check(name, actor.machine.log, history)
            if actor.is_leader:
                assert leaders.setdefault(actor.engine.status().term, name) == name, "one leader a term"
    stage.heal()
    for actor in stage.actors.values():
        actor.shelf.deferred = False
        actor.shelf.answer()
    stage.run(6.0)
    assert any(actor.is_leader for actor in stage.actors.values()), "peace brings a leader"
    last = {actor.machine.applied for actor in stage.actors.values()}
    assert len(last) == 1, "all stand at one index with one digest"
    assert len(history) > 50


def _disturb(stage: Stage, chance: random.Random, step: int) -> None:
    letters, stage.network = stage.network, []
    chance.shuffle(letters)
    for letter in letters:
        fate = chance.random()
        if fate < 0.25 and len(letters) < 400:
            stage.network.append(letter)  # later
        arrives = fate >= 0.25 or 0.05 < fate < 0.1  # in between it comes now and once more later
        if arrives and frozenset((letter.sender, letter.to)) not in stage.cuts:
            stage[letter.to].engine.receive(member(letter.sender), letter.data)
    name = chance.choice(stage.names)
    actor = stage[name]
    if step % 3 == 0:
        actor.engine.hand_over(group(b"%d" % step))
    fate = chance.random()
    if fate < 0.002:
        actor.crash()
    elif fate < 0.006:
        stage.isolate(name)
    elif fate < 0.02:
        stage.heal()
    elif fate < 0.023:
        actor.engine.transfer_leadership()
    elif fate < 0.028 and actor.machine.applied.index > actor.journal.base_index:
        term = actor.journal.term_at(actor.machine.applied.index)
        assert term is not None
        actor.shelf.take(term)
        actor.journal.compact(actor.machine.applied.index - chance.randrange(2))
    elif fate < 0.04:
        actor.shelf.deferred = not actor.shelf.deferred
    elif fate < 0.2:
        actor.shelf.answer()


def _check(name: str, log: list[AppliedEntry], history: dict[int, tuple[bytes, ...]]) -> None:
    for index, term, _, payloads in log[-12:]:
        told = (b"%d" % term, *payloads)
        assert history.setdefault(index, told) == told, f"{name} applied something else at index {index}"
