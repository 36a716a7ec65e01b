"""Real connections between two and three nodes on loopback, and what strangers can do to them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from cluster.node.identity import node_of_certificate
from cluster.node.logs import make_logger
from cluster.raft.introduction import Introduction
from cluster.raft.links import Links, LinkSettings, PeerAddress
from tests.node.credentials import TestCluster

CLUSTER = TestCluster.make("c" * 32)
MEMBERS = ["1" * 32, "2" * 32, "3" * 32]
DAY_MS = 86_400_000


def listening_socket() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening


class Endpoint:
    """A node's links, with what they reported."""

    def __init__(self, member_id: str, cluster: TestCluster = CLUSTER, **changed: object) -> None:
        settings = LinkSettings(**{"handshake_timeout_s": 2.0, "retry_late_s": 0.2, "retry_soon_s": 0.1, **changed})  # type: ignore[arg-type]
        self.member_id = member_id
        self.cluster = cluster
        self.received: list[tuple[str, bytes]] = []
        self.states: list[tuple[str, str]] = []
        self.log = io.StringIO()
        self.incarnation = (1, "e" * 32)
        self.credential = cluster.node(member_id)
        self.settings = settings
        self.place: tuple[str, int] = ("", 0)  # where it says that it is reached
        self.session = ""
        self.removed: set[str] = set()
        self.elsewhere = 0
        self.met: list[str] = []
        self.told: list[str] = []
        self.socket = listening_socket()
        self.address = PeerAddress("127.0.0.1", self.socket.getsockname()[1])
        self.changed = asyncio.Event()

    def start(self) -> None:
        server_tls, client_tls = self.cluster.contexts(self.credential)
        self.links = Links(
            own=Introduction(self.cluster.cluster_id, *self.incarnation, self.member_id, *self.place, self.session),
            identify=node_of_certificate,
            server_tls=server_tls,
            client_tls=client_tls,
            receive=lambda member, frame: self.note(self.received, (member, frame)),
            connected=lambda member: self.note(self.states, ("connected", member)),
            disconnected=lambda member: self.note(self.states, ("disconnected", member)),
            random=Random(1),
            log=make_logger(self.log, "info"),
            settings=self.settings,
            was_removed=self.removed.__contains__,
            told_of_removal=self.told.append,
            told_of_another=self.told_of_another,
            met=self.met.append,
        )
        self.links.listen(self.socket)

    def told_of_another(self) -> None:
        self.elsewhere += 1

    def note(self, into: list[tuple[str, bytes]] | list[tuple[str, str]], what: tuple[str, bytes | str]) -> None:
        into.append(what)  # type: ignore[arg-type]
        self.changed.set()

    def logged(self, event: str) -> list[dict[str, str]]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - the conditions are of several objects
            await asyncio.sleep(0.005)


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., None]]:
    started: list[Endpoint] = []

    def begin(*endpoints: Endpoint) -> None:
        for endpoint in endpoints:
            endpoint.start()
            started.append(endpoint)
        for endpoint in endpoints:
            endpoint.links.set_peers({e.member_id: e.address for e in endpoints if e is not endpoint})

    yield begin
    for endpoint in started:
        await endpoint.links.close()


async def test_three_nodes_send_frames_each_way_in_order(start: Callable[..., None]) -> None:
    nodes = [Endpoint(member) for member in MEMBERS]
    start(*nodes)
    await until(lambda: all(len(n.states) == 2 for n in nodes))
    frames = [b"x" * size for size in (1, 70_000, 5, 1_000_000, 3)]
    for node in nodes:
        for other in nodes:
            for frame in frames:
                node.links.send(other.member_id, frame)
    await until(lambda: all(len(n.received) == 10 for n in nodes))
    for node in nodes:
        for other in nodes:
            if other is not node:
                assert [f for m, f in node.received if m == other.member_id] == frames


async def test_a_node_that_comes_back_is_connected_again(start: Callable[..., None]) -> None:
    one, two = Endpoint(MEMBERS[0]), Endpoint(MEMBERS[1])
    start(one, two)
    await until(lambda: len(one.states) == 1)
    await two.links.close()
    await until(lambda: one.states[-1] == ("disconnected", two.member_id))
    again = Endpoint(MEMBERS[1])
    again.socket.close()
    again.socket = socket.create_server(two.address)
    again.socket.setblocking(False)
    again.start()
    again.links.set_peers({one.member_id: one.address})
    await until(lambda: one.states[-1] == ("connected", two.member_id))
    again.links.send(one.member_id, b"back")
    one.links.send(two.member_id, b"hello")
    await until(lambda: again.received == [(one.member_id, b"hello")])
    await again.links.close()


async def test_sending_to_nobody_is_dropped(start: Callable[..., None]) -> None:
    one = Endpoint(MEMBERS[0])
    start(one)
    one.links.send(MEMBERS[1], b"lost")
    assert one.received == []


def pair(**second: object) -> tuple[Endpoint, Endpoint]:
    one, two = Endpoint(MEMBERS[0]), Endpoint(MEMBERS[1])
    for name, value in second.items():
        setattr(two, name, value)
    return one, two


async def refused(start: Callable[..., None], one: Endpoint, two: Endpoint, words: str) -> None:
    """Both ways refused, said in the log of `one`, and said once although `two` goes on trying."""
    start(one, two)
    await until(lambda: any(words in line["reason"] for line in one.logged("peer_refused")))
    await asyncio.sleep(0.5)
    said = [line["reason"] for line in one.logged("peer_refused") if words in line["reason"]]
    assert len(said) <= 2, "once for the accepted side, once for the dialled side"
    assert one.states == []
    assert two.states == []
    assert one.received == []


async def test_a_peer_of_another_cluster_is_refused(start: Callable[..., None]) -> None:
    """The same authority, another cluster's id: as a copied certificate authority would give."""
    one, two = pair()
    foreign = TestCluster("d" * 32, CLUSTER.root, CLUSTER.issuing)
    two.cluster, two.credential = foreign, foreign.node(two.member_id)
    await refused(start, one, two, "another cluster")


async def test_a_peer_of_another_authority_is_refused(start: Callable[..., None]) -> None:
    one, two = pair()
    two.cluster = TestCluster.make("c" * 32)
    two.credential = two.cluster.node(two.member_id)
    start(one, two)
    await until(lambda: any("certificate" in line["reason"] for line in one.logged("peer_refused")))
    assert one.states == []


async def test_a_peer_of_an_older_incarnation_is_refused(start: Callable[..., None]) -> None:
    one, two = pair()
    one.incarnation = (2, "f" * 32)
    await refused(start, one, two, "a node left over from before a restore must join anew")


async def test_a_peer_under_anothers_name_is_refused(start: Callable[..., None]) -> None:
    one, two = pair(credential=CLUSTER.node(MEMBERS[2]))
    await refused(start, one, two, "its certificate says " + MEMBERS[2])


async def test_an_unknown_member_is_refused(start: Callable[..., None]) -> None:
    one, two = Endpoint(MEMBERS[0]), Endpoint(MEMBERS[1])
    start(one)
    start(two)
    two.links.set_peers({one.member_id: one.address})
    await until(lambda: any("not a member" in line["reason"] for line in two.logged("peer_refused")))
    assert any("not a member" in line["reason"] for line in one.logged("peer_refused"))
    assert two.states == []


async def test_an_expired_certificate_is_refused_by_name(start: Callable[..., None]) -> None:
    one, two = pair()
    two.credential = CLUSTER.node(MEMBERS[1], now_ms=1_600_000_000_000)
    start(one, two)
    await until(lambda: any("certificate has expired" in line["reason"] for line in one.logged("peer_refused")))
    await until(lambda: any("its log says why" in line["reason"] for line in two.logged("peer_refused")))
    assert one.states == []
    assert two.states == []


async def test_a_client_certificate_is_no_peer(start: Callable[..., None]) -> None:
    from cluster.node.certificates import client_identity, issue_client
    from cluster.node.clock import system_wall_ms

    one, two = pair()
    two.credential = issue_client(CLUSTER.issuing, client_identity(CLUSTER.cluster_id, "op"), system_wall_ms())
    start(one, two)
    await until(lambda: any("not a node's" in line["reason"] for line in one.logged("peer_refused")))
    assert one.states == []


async def dial(one: Endpoint, member: str = MEMBERS[1]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    _, client_tls = CLUSTER.contexts(CLUSTER.node(member))
    return await asyncio.open_connection(*one.address, ssl=client_tls)


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">I", 0xFFFFFFFF) + b"x",
        struct.pack(">I", 0),
        struct.pack(">I", 5) + b"\xc1\xc1\xc1\xc1\xc1",
        struct.pack(">I", 1000) + b"\xdd\xff\xff\xff\xff" + b"\x00" * 995,
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["huge", "empty", "not-msgpack", "deep", "http"],
)
async def test_garbage_for_an_introduction_ends_the_connection(start: Callable[..., None], garbage: bytes) -> None:
    one, two = pair()
    start(one, two)
    reader, writer = await dial(one)
    writer.write(garbage)
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert CLUSTER.cluster_id.encode() not in answer, "a stranger is told nothing of the cluster"
    await end(writer)
    assert one.received == []


async def test_a_frame_beyond_the_limit_ends_the_connection(start: Callable[..., None]) -> None:
    one, two = Endpoint(MEMBERS[0], frame_bytes_max=100), Endpoint(MEMBERS[1])
    start(one, two)
    await until(lambda: two.states == [("connected", one.member_id)])
    two.links.send(one.member_id, b"x" * 101)
    await until(lambda: ("disconnected", one.member_id) in two.states)
    assert one.received == []
    assert any("a frame of 101 bytes" in line["reason"] for line in one.logged("peer_refused"))


async def test_strangers_who_say_nothing_are_bounded_and_don_t_keep_peers_out(start: Callable[..., None]) -> None:
    one, two = Endpoint(MEMBERS[0], unauthenticated_max=8), Endpoint(MEMBERS[1])
    start(one)
    silent = [await asyncio.open_connection(*one.address) for _ in range(40)]
    start(two)
    one.links.set_peers({two.member_id: two.address})
    two.links.set_peers({one.member_id: one.address})
    await until(lambda: two.states == [("connected", one.member_id)])
    assert len(one.links._greeting) <= 8
    await until(lambda: len(one.links._greeting) == 0)  # the rest meet the handshake's time limit
    for _, writer in silent:
        await end(writer)


async def test_one_byte_at_a_time_meets_the_time_limit(start: Callable[..., None]) -> None:
    one = Endpoint(MEMBERS[0], handshake_timeout_s=0.5)
    start(one)
    reader, writer = await dial(one)

    async def trickle() -> None:
        for byte in struct.pack(">I", 1000) + b"x" * 1000:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(trickle())
    async with asyncio.timeout(5):
        while await reader.read(100):
            pass
    task.cancel()
    await end(writer)
    assert len(one.links._greeting) == 0


async def test_a_peer_that_does_not_read_is_dropped_not_waited_for(start: Callable[..., None]) -> None:
    one = Endpoint(MEMBERS[0], send_bytes_max=1 << 20)
    start(one)
    server_tls, _ = CLUSTER.contexts(CLUSTER.node(MEMBERS[1]))
    from cluster.raft.framing import encode_frame
    from cluster.raft.introduction import encode_introduction

    ended = asyncio.Event()

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode_frame(encode_introduction(Introduction(CLUSTER.cluster_id, 1, "e" * 32, MEMBERS[1]))))
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(never_reads, "127.0.0.1", 0, ssl=server_tls, limit=1)
    one.links.set_peers({MEMBERS[1]: PeerAddress(*server.sockets[0].getsockname()[:2])})
    await until(lambda: one.states == [("connected", MEMBERS[1])])
    for _ in range(2_000):
        one.links.send(MEMBERS[1], b"x" * 65_536)
        await asyncio.sleep(0)
        if len(one.states) > 1:
            break
    assert one.states[1] == ("disconnected", MEMBERS[1])
    assert one.logged("peer_too_slow")
    ended.set()
    await one.links.close()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


async def test_tls_1_2_is_refused(start: Callable[..., None]) -> None:
    one = Endpoint(MEMBERS[0])
    start(one)
    _, client_tls = CLUSTER.contexts(CLUSTER.node(MEMBERS[1]))
    client_tls.minimum_version = ssl.TLSVersion.TLSv1_2
    client_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(*one.address, ssl=client_tls)


async def test_a_removed_peer_is_disconnected(start: Callable[..., None]) -> None:
    one, two = pair()
    start(one, two)
    await until(lambda: len(one.states) == 1 and len(two.states) == 1)
    one.links.set_peers({})
    await until(lambda: ("disconnected", two.member_id) in one.states)
    two.links.send(one.member_id, b"still here?")
    await until(lambda: ("disconnected", one.member_id) in two.states)
    assert one.received == []
