"""Groups that are handed over more than once: an impatient origin adds no load, and nothing is lost by that."""

from tests.raft.stage import Stage, group

IMPATIENT = group(b"x")


def test_a_group_whose_entry_is_under_way_gets_no_second_one() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("a")
    before = a.engine.status().last_index
    for _ in range(3):
        assert a.engine.hand_over(IMPATIENT), "taken, as it was"
        stage.settle(["a"])
    assert a.engine.status().last_index == before + 1
    stage.heal()
    stage.run(1.0)
    assert [actor.machine.payloads for actor in stage.actors.values()] == [[b"x"]] * 3


def test_a_group_that_was_applied_may_come_again() -> None:
    """As after a snapshot, within which its origin could not see it; request ids make it harmless."""
    stage = Stage("abc")
    a = stage.elect("a")
    for _ in range(2):
        a.engine.hand_over(IMPATIENT)
        stage.run(0.5)
    assert stage["c"].machine.payloads == [b"x", b"x"]


def test_a_group_that_was_lost_with_a_leaders_office_is_taken_in_the_next() -> None:
    stage = Stage("abc")
    a = stage.elect("a")
    stage.isolate("a")
    a.engine.hand_over(IMPATIENT)
    stage.settle(["a"])
    stage.run(4.0)
    leader = next(name for name in "bc" if stage[name].is_leader)
    stage.propose(leader, b"y")
    stage.heal()
    stage.run(1.0)
    assert a.machine.payloads == [b"y"], "what it alone held was taken back"
    stage.elect("a")
    a.engine.hand_over(IMPATIENT)
    stage.run(1.0)
    assert [actor.machine.payloads for actor in stage.actors.values()] == [[b"y", b"x"]] * 3
