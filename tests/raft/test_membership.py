"""Changes of members: one voter at a time, in effect when logged, undone when truncated (dissertation, section 4.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.raft.engine import Configuration
from cluster.raft.entries import configuration_in, pack_configuration, stamp_of, unpack
from cluster.raft.errors import ChangeRefused, FrameRefused, RemovedFromCluster
from cluster.raft.membership import Membership, objection
from cluster.raft.messages import Append, Vote
from tests.raft.stage import Stage, member

THREE = Configuration(("a", "b", "c"))


def test_a_configuration_travels_in_an_entry() -> None:
    configuration = Configuration(("a", "b"), ("c",))
    data = pack_configuration(5, configuration)
    assert unpack(data).configuration == configuration
    assert configuration_in(data) == configuration
    assert stamp_of(data) == 5


@pytest.mark.parametrize(
    "configuration",
    [((), ("a",)), (("b", "a"), ()), (("a",), ("a",)), (("a", "a"), ())],
    ids=["no voter", "unsorted", "both", "twice"],
)
def test_a_malformed_configuration_is_refused(configuration: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    good = pack_configuration(5, Configuration(("a", "b")))
    whole = object.__new__(Configuration)
    object.__setattr__(whole, "voters", configuration[0])
    object.__setattr__(whole, "learners", configuration[1])
    assert unpack(good).configuration is not None
    with pytest.raises(FrameRefused):
        unpack(pack_configuration(5, whole))


def test_one_member_at_a_time() -> None:
    assert objection(THREE, THREE) == "nothing changes"
    assert objection(THREE, THREE.with_learner("d")) is None
    assert objection(THREE, THREE.without("c")) is None
    assert objection(THREE, THREE.with_voter("d")) == "a member votes only after it was filled as a learner"
    assert objection(THREE.with_learner("d"), THREE.with_voter("d")) is None
    assert objection(THREE, THREE.without("c").without("b")) == "more than one voter at a time"
    assert objection(THREE, THREE.with_learner("d").with_learner("e")) == "more than one member at a time"
    assert objection(THREE, THREE.without("c").with_learner("d")) == "more than one member at a time"
    assert objection(Configuration(("a",)), Configuration((), ("a",))) == "no voter would be left"


@given(st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True), st.data())
def test_majorities_before_and_after_a_permitted_change_share_a_member(voters: list[str], data: st.DataObject) -> None:
    before = Configuration(tuple(sorted(voters)))
    if data.draw(st.booleans()) and len(voters) > 1:
        after = before.without(data.draw(st.sampled_from(voters)))
    else:
        added = data.draw(st.sampled_from([m for m in "abcdefgh" if m not in voters]))
        assert objection(before.with_learner(added), before.with_voter(added)) is None
        after = before.with_voter(added)
    assert len(before.voters) // 2 + 1 + len(after.voters) // 2 + 1 > len({*before.voters, *after.voters})


def test_a_truncated_change_goes_out_of_effect() -> None:
    changes: list[int] = []
    membership = Membership("a", 1, THREE)
    membership.changed = lambda: changes.append(membership.index)
    membership.appended(5, THREE.with_learner("d"))
    membership.appended(9, THREE.with_voter("d"))
    membership.truncated(10)
    assert membership.index == 9
    membership.truncated(7)
    assert membership.configuration == THREE.with_learner("d")
    membership.applied(5)
    membership.truncated(6)
    assert membership.configuration == THREE.with_learner("d")
    assert changes == [5, 9, 5]


def _led(names: str) -> tuple[Stage, str]:
    stage = Stage(names)
    stage.elect("a")
    return stage, "a"


def test_a_removed_member_gets_nothing_more_and_the_rest_go_on() -> None:
    stage, leader = _led("abc")
    removed = next(name for name in "abc" if name != leader)
    engine = stage[leader].engine
    engine.change_configuration(engine.configuration.without(member(removed)))
    with pytest.raises(ChangeRefused, match="another change"):
        engine.change_configuration(engine.configuration)
    stage.isolate(removed)  # as the node's connections do
    stage.run(2.0)
    others = [name for name in "abc" if name != removed]
    assert all(len(stage[name].engine.configuration.voters) == 2 for name in others)
    assert stage[leader].engine.status().role == "leader"


def test_a_leader_does_not_remove_itself_nor_the_quorum() -> None:
    stage, leader = _led("abc")
    engine = stage[leader].engine
    with pytest.raises(ChangeRefused, match="hand leadership on"):
        engine.change_configuration(engine.configuration.without(member(leader)))
    first, second = (name for name in "abc" if name != leader)
    stage.isolate(first)
    stage.run(1.0)
    with pytest.raises(ChangeRefused, match="cost the quorum"):
        engine.change_configuration(engine.configuration.without(member(second)))
    engine.change_configuration(engine.configuration.without(member(first)))
    stage.run(1.0)
    assert engine.configuration_index <= engine.status().applied_index


def test_a_follower_may_not_change_members() -> None:
    stage, leader = _led("abc")
    follower = next(name for name in "abc" if name != leader)
    engine = stage[follower].engine
    with pytest.raises(ChangeRefused, match="does not lead"):
        engine.change_configuration(engine.configuration.without(member(leader)))


def test_a_machine_with_nothing_is_filled_and_then_votes() -> None:
    stage, leader = _led("abc")
    engine = stage[leader].engine
    stage[leader].shelf.take(1)
    stage.propose(leader, *(b"%d" % number for number in range(20)))
    joined = stage.join("d")
    stage.run(1.0)
    assert joined.engine.status().role == "non-voter"
    assert joined.engine.status().term == 0, "nobody speaks to it before it is in the log"
    engine.change_configuration(engine.configuration.with_learner(member("d")))
    stage.run(1.0)
    assert joined.machine.payloads[-1] == stage[leader].machine.payloads[-1]
    assert ("snapshot_installed", {"index": 2, "term": 1}) in joined.events
    engine.change_configuration(engine.configuration.with_voter(member("d")))
    stage.run(1.0)
    assert joined.engine.status().role == "follower"
    assert joined.engine.configuration == Configuration(tuple(member(name) for name in "abcd"))


def test_a_machine_that_joins_is_not_removed_by_changes_from_before_its_time() -> None:
    stage, leader = _led("abc")
    engine = stage[leader].engine
    stage[leader].shelf.take(1)
    removed = next(name for name in "abc" if name != leader)
    engine.change_configuration(engine.configuration.without(member(removed)))
    stage.isolate(removed)
    stage.run(1.0)
    joined = stage.join("d")
    engine.change_configuration(engine.configuration.with_learner(member("d")))
    stage.run(1.0)
    assert joined.engine.configuration == engine.configuration
    assert joined.machine.applied.index == stage[leader].machine.applied.index


def test_a_member_that_applies_its_own_removal_stops_by_name() -> None:
    stage, leader = _led("abc")
    stage[leader].shelf.take(1)
    joined = stage.join("d")
    engine = stage[leader].engine
    engine.change_configuration(engine.configuration.with_learner(member("d")))
    stage.run(1.0)
    stage.isolate("d")
    engine.change_configuration(engine.configuration.without(member("d")))
    stage.run(1.0)
    lines = stage[leader].journal.entries(joined.journal.last_index + 1, 1 << 20)
    for line in lines:
        joined.journal.append(line)
    joined.core._SyncObj__raftCommitIndex = lines[-1].index
    joined.sync()
    with pytest.raises(RemovedFromCluster):
        joined.engine.tick()


def test_a_lone_leader_takes_in_a_second_and_a_third() -> None:
    stage = Stage("a", "a")
    stage.run(2.0)
    stage["a"].shelf.take(1)
    engine = stage["a"].engine
    for name in "bc":
        stage.join(name)
        engine.change_configuration(engine.configuration.with_learner(member(name)))
        stage.run(1.0)
        engine.change_configuration(engine.configuration.with_voter(member(name)))
        stage.run(1.0)
    assert stage["b"].engine.configuration == Configuration(tuple(member(name) for name in "abc"))
    stage.propose("a", b"together")
    stage.run(0.5)
    assert all(stage[name].machine.payloads[-1] == b"together" for name in "abc")


def test_a_member_that_was_away_follows_a_leader_that_joined_meanwhile() -> None:
    stage, leader = _led("abc")
    stage[leader].shelf.take(1)
    engine = stage[leader].engine
    away = next(name for name in "abc" if name != leader)
    stage.isolate(away)
    stage.cuts.add(frozenset((away, "d")))
    stage.join("d")
    engine.change_configuration(engine.configuration.with_learner(member("d")))
    stage.run(1.0)
    engine.change_configuration(engine.configuration.with_voter(member("d")))
    stage.run(1.0)
    engine.transfer_leadership(member("d"))
    stage.run(1.0)
    assert stage["d"].is_leader
    with pytest.raises(FrameRefused, match="not a member"):
        stage.say("d", away, Append(2, 1, 2, ()), 5)
    stage[away].engine.met(member("d"))
    with pytest.raises(FrameRefused, match="not a member"):
        stage.say("d", away, Vote(), 5)
    stage.cuts.remove(frozenset((away, "d")))
    stage.run(2.0)
    assert stage[away].engine.status().leader == member("d")
    assert stage[away].machine.applied == stage["d"].machine.applied
    assert stage[away].engine.configuration == stage["d"].engine.configuration


def test_a_learner_of_a_lone_voter_hears_only_of_what_is_on_its_disk() -> None:
    """A lone voter agrees with itself at once; what a learner applies must survive its power loss all the same."""
    stage = Stage("a", "a")
    stage.run(2.0)
    stage["a"].shelf.take(1)
    joined = stage.join("b")
    engine = stage["a"].engine
    engine.change_configuration(engine.configuration.with_learner(member("b")))
    stage.run(1.0)
    stage["a"].disk_hangs = True
    stage.propose("a", b"not on the disk")
    for _ in range(20):
        stage.time.now += 0.01
        stage.tick()
        stage.sync()
        stage.deliver()
    assert stage["a"].log[-1].index in {entry.index for entry in joined.log}, "it was sent"
    assert b"not on the disk" not in joined.machine.payloads
    stage["a"].disk_hangs = False
    stage.run(0.5)
    assert joined.machine.payloads[-1] == b"not on the disk"
