"""Connections while members come and go: who was removed, who is not known yet, and who is there twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.node.test_links import CLUSTER, MEMBERS, Endpoint, pair, start, until

__all__ = ["start"]


async def test_a_removed_member_that_comes_back_is_told(start: Callable[..., None]) -> None:
    one, two = pair()
    one.removed.add(two.member_id)
    start(one)
    start(two)
    two.links.set_peers({one.member_id: one.address})
    await until(lambda: two.told == [one.member_id])
    assert any("was removed" in line["reason"] for line in one.logged("peer_refused"))
    assert two.states == []


async def test_who_merely_does_not_know_a_member_tells_it_nothing(start: Callable[..., None]) -> None:
    """It may lag behind the entry that makes this one a member."""
    one, two = pair()
    start(one)
    start(two)
    two.links.set_peers({one.member_id: one.address})
    await until(lambda: any("not a member" in line["reason"] for line in two.logged("peer_refused")))
    assert two.told == []


async def test_only_the_peer_itself_is_believed_about_a_removal(start: Callable[..., None]) -> None:
    one, two = pair()
    one.removed.add(two.member_id)
    one.credential = CLUSTER.node(MEMBERS[2])
    start(one)
    start(two)
    two.links.set_peers({one.member_id: one.address})
    await until(lambda: any("was removed" in line["reason"] for line in two.logged("peer_refused")))
    assert two.told == []


async def test_a_node_that_is_not_known_yet_is_taken_in_and_answered(start: Callable[..., None]) -> None:
    """One was away while the other joined, and the other leads now."""
    one, two = pair()
    two.place = tuple(two.address)
    start(one)
    start(two)
    two.links.set_peers({one.member_id: one.address})
    await until(lambda: ("connected", one.member_id) in two.states and ("connected", two.member_id) in one.states)
    assert one.met == [two.member_id]
    two.links.send(one.member_id, b"follow me")
    one.links.send(two.member_id, b"I do")
    await until(lambda: (two.member_id, b"follow me") in one.received and (one.member_id, b"I do") in two.received)
    one.links.set_peers({})
    await asyncio.sleep(0.1)
    assert one.links.is_connected(two.member_id), "until it is named, or was removed"
    one.removed.add(two.member_id)
    one.links.set_peers({})
    await until(lambda: not one.links.is_connected(two.member_id))


async def test_strangers_are_bounded(start: Callable[..., None]) -> None:
    one = Endpoint(MEMBERS[0], strangers_max=1)
    start(one)
    others = [Endpoint(MEMBERS[1]), Endpoint(MEMBERS[2])]
    for other in others:
        other.place = tuple(other.address)
        start(other)
        other.links.set_peers({one.member_id: one.address})
    await until(
        lambda: any("not a member" in line["reason"] for other in others for line in other.logged("peer_refused"))
    )
    assert len(one.met) == 1


async def test_a_copy_of_a_node_is_told_that_it_is_one(start: Callable[..., None]) -> None:
    one, two = pair(session="first")
    copy = Endpoint(MEMBERS[1], told_s=0.3)
    copy.session = "second"
    start(one, two)
    await until(lambda: two.states == [("connected", one.member_id)])

    async def speak() -> None:
        while True:
            two.links.send(one.member_id, b"here")
            await asyncio.sleep(0.05)

    speaking = asyncio.create_task(speak())
    await until(lambda: len(one.received) > 2)
    start(copy)
    copy.links.set_peers({one.member_id: one.address})
    await until(lambda: copy.elsewhere > 0)
    assert copy.states == []
    assert two.elsewhere == 0
    assert two.states == [("connected", one.member_id)]
    speaking.cancel()


async def test_a_node_that_starts_again_is_no_copy(start: Callable[..., None]) -> None:
    """Its old connection hangs on, and nothing comes of it any more."""
    one = Endpoint(MEMBERS[0], alive_s=0.2)
    two, again = Endpoint(MEMBERS[1]), Endpoint(MEMBERS[1])
    two.session, again.session = "first", "second"
    start(one, two)
    await until(lambda: two.states == [("connected", one.member_id)])
    two.links.send(one.member_id, b"last words")
    await until(lambda: len(one.received) == 1)
    start(again)
    again.links.set_peers({one.member_id: one.address})
    await until(lambda: again.states == [("connected", one.member_id)])
    assert again.elsewhere == 0
