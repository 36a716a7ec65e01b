"""Reading the audit trail through the door: who may, what is found, names for those who are users, and its ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from cluster.services import limits
from cluster.services.event_source import EventBatch, EventRecord, GapRecord, SourceClosed, Wanted
from cluster.services.events import EventsService
from cluster.state.commands import AddUser
from cluster.state.records import Role
from tests.services.certificates import Authority, client_uri
from tests.services.direct_node import DirectNode, first_state
from tests.services.door import Door, Services, field_of, open_door, reason_of
from tests.state.fixtures import Driver
from watchword.v1 import authentication_pb2, events_pb2, events_pb2_grpc

MESSAGE = events_pb2.ReadEventsRequest


def event(index: int, pseudonym: str = "", **others: Any) -> EventRecord:
    given = {"kind": "verify", "decision": "REJECT", "reason": "WRONG", "client": "client/vpn", **others}
    texts = ("subject", "token_id", "application", "request_id")
    return EventRecord(
        index=index,
        at_ms=1_000 + index,
        pseudonym=pseudonym,
        number=1,
        of=1,
        **{**dict.fromkeys(texts, ""), **given},
    )


class Trail:
    """A source whose batches a test puts in; it remembers what was asked."""

    def __init__(self) -> None:
        self.batches: list[EventBatch] = []
        self.asked: list[tuple[Wanted, int, bool]] = []
        self.known: dict[str, str] = {}
        self.closed = False
        self.ended = asyncio.Event()

    async def read(self, wanted: Wanted, *, limit: int, follow: bool) -> AsyncGenerator[EventBatch, None]:
        self.asked.append((wanted, limit, follow))
        try:
            for batch in self.batches:
                yield batch
            while follow:
                if self.closed:
                    raise SourceClosed
                yield EventBatch()
                await asyncio.sleep(0.005)
        finally:
            self.ended.set()

    async def names(self, pseudonyms: frozenset[str]) -> dict[str, str]:
        return {pseudonym: name for pseudonym, name in self.known.items() if pseudonym in pseudonyms}


@pytest.fixture
async def trail() -> Trail:
    return Trail()


@pytest.fixture
async def node() -> DirectNode:
    return DirectNode()


@pytest.fixture
async def door(authority: Authority, trail: Trail, node: DirectNode) -> AsyncIterator[Door]:
    def services(gate: Any, log: Any) -> Services:
        made = node.services(gate, log)
        service = EventsService(trail, node.state.pseudonyms.of, write_s=0.3)
        return Services(made.authentication, made.administration, made.cluster, service)

    async with open_door(authority, node.roles_of, services) as opened:
        yield opened


def stub(door: Door, name: str = "auditor") -> Any:
    return events_pb2_grpc.EventsStub(door.channel(name))


async def read(door: Door, request: Any, name: str = "auditor") -> list[Any]:
    return [response async for response in stub(door, name).Read(request, timeout=20)]


async def test_events_come_in_their_order_with_the_names_of_users(door: Door, trail: Trail) -> None:
    trail.known = {"aa": "alice"}
    trail.batches = [EventBatch([event(1, "aa"), event(2, "bb")]), EventBatch(gaps=[GapRecord(3, 8)])]
    events, gaps = await read(door, MESSAGE())
    assert [(e.index, e.user_id, e.pseudonym) for e in events.events] == [(1, "alice", "aa"), (2, "", "bb")]
    first = events.events[0]
    assert (first.decision, first.reason) == (authentication_pb2.DECISION_REJECT, authentication_pb2.REASON_WRONG)
    assert (first.at_ms, first.kind, first.client, first.number, first.of) == (1_001, "verify", "client/vpn", 1, 1)
    assert [(gap.from_index, gap.to_index) for gap in gaps.gaps] == [(3, 8)]


async def test_a_reason_that_a_newer_node_wrote_is_unspecified(door: Door, trail: Trail) -> None:
    trail.batches = [EventBatch([event(1, reason="NEVER_HEARD_OF")])]
    (response,) = await read(door, MESSAGE())
    assert response.events[0].reason == authentication_pb2.REASON_UNSPECIFIED


async def test_many_events_come_in_several_messages(door: Door, trail: Trail) -> None:
    trail.batches = [EventBatch([event(index) for index in range(1_200)])]
    responses = await read(door, MESSAGE())
    assert [len(response.events) for response in responses] == [500, 500, 200]


async def test_who_is_searched_for_is_asked_by_the_pseudonym(door: Door, trail: Trail, node: DirectNode) -> None:
    request = MESSAGE(
        user_id="ALICE",
        kinds=["verify"],
        decision=authentication_pb2.DECISION_REJECT,
        reason=authentication_pb2.REASON_WRONG,
        client="vpn",
        application="a",
        by_request_id="r",
        subject="s",
        token_id="t",
        since_ms=5,
        until_ms=9,
        after_index=3,
        limit=7,
    )
    await read(door, request, "operator")
    wanted = Wanted(
        node.state.pseudonyms.of("alice"),
        frozenset({"verify"}),
        "REJECT",
        "WRONG",
        "t",
        "client/vpn",
        "a",
        "r",
        "s",
        5,
        9,
        3,
    )
    assert trail.asked == [(wanted, 7, False)]


async def test_only_new_asks_for_nothing_of_the_past(door: Door, trail: Trail) -> None:
    await read(door, MESSAGE(only_new=True))
    assert trail.asked[0][1:] == (0, False)


@pytest.mark.parametrize("name", ["frontend", "helpdesk", "connector", "nobody"])
async def test_only_operators_and_auditors_may(door: Door, name: str) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await read(door, MESSAGE(), name)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (MESSAGE(limit=limits.EVENTS_MAX + 1), "limit"),
        (MESSAGE(user_id="a\0b"), "user_id"),
        (MESSAGE(user_id="x" * 300), "user_id"),
        (MESSAGE(user_id="alice", pseudonym="ab"), "pseudonym"),
        (MESSAGE(client="x" * 600), "client"),
        (MESSAGE(kinds=["k"] * 65), "kinds"),
        (MESSAGE(since_ms=-1), "since_ms"),
        (MESSAGE(until_ms=-1), "until_ms"),
        (MESSAGE(decision=17), "decision"),  # type: ignore[arg-type] # a caller may send any number
        (MESSAGE(reason=99), "reason"),  # type: ignore[arg-type] # the same
    ],
)
async def test_what_is_wrong_is_named(door: Door, request_: Any, field: str) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await read(door, request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(refused.value) == field


async def test_a_role_that_is_taken_away_ends_a_stream_on_which_nothing_happens(door: Door, node: DirectNode) -> None:
    call = stub(door).Read(MESSAGE(follow=True), timeout=20)
    await call.initial_metadata()
    roles = {"auditor": frozenset({Role.HELPDESK})}
    node.state = first_state(roles)
    with pytest.raises(aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_node_that_stops_says_where_to_go_on(door: Door, trail: Trail) -> None:
    call = stub(door).Read(MESSAGE(follow=True), timeout=20)
    await call.initial_metadata()
    trail.closed = True
    with pytest.raises(aio.AioRpcError) as refused:
        await call.read()
    assert reason_of(refused.value) == "STOPPING"
    assert "after_index" in (refused.value.details() or "")


async def test_who_does_not_read_is_cut_off(door: Door, trail: Trail) -> None:
    trail.batches = [EventBatch([event(n, application="x" * 100) for n in range(500)]) for _ in range(200)]
    call = stub(door).Read(MESSAGE(), timeout=20)
    await call.initial_metadata()
    await asyncio.wait_for(trail.ended.wait(), 20)
    with pytest.raises(aio.AioRpcError):
        async for _ in call:
            pass


async def test_more_than_may_read_at_a_time_are_told_so(door: Door) -> None:
    calls = [
        stub(door).Read(MESSAGE(follow=True), timeout=20)
        for _ in range(limits.CALLS_IN_FLIGHT_MAX["watchword.v1.Events"])
    ]
    for call in calls:
        await call.initial_metadata()
    with pytest.raises(aio.AioRpcError) as refused:
        await read(door, MESSAGE())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for call in calls:
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call.read()


def test_the_filter_takes_what_fits_in_every_respect() -> None:
    found = event(5, "aa", token_id="t", application="a", request_id="r", subject="s")
    assert Wanted().fits(found)
    assert Wanted(
        "aa", frozenset({"verify"}), "REJECT", "WRONG", "t", "client/vpn", "a", "r", "s", 1_005, 1_006, 4
    ).fits(found)
    others = [
        Wanted(pseudonym="bb"),
        Wanted(kinds=frozenset({"user_added"})),
        Wanted(decision="ACCEPT"),
        Wanted(reason="LOCKED"),
        Wanted(token_id="u"),
        Wanted(client="client/other"),
        Wanted(application="b"),
        Wanted(request_id="q"),
        Wanted(subject="z"),
        Wanted(since_ms=1_006),
        Wanted(until_ms=1_005),
        Wanted(after_index=5),
    ]
    assert not [wanted for wanted in others if wanted.fits(found)]


def test_a_state_knows_its_users_by_pseudonym() -> None:
    driver = Driver()
    driver.run(AddUser("alice"))
    assert client_uri("x").startswith("watchword://")
    assert len(driver.state.pseudonyms.of("alice")) == 32
