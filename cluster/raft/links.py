"""Connections between the nodes: TCP under mutual TLS 1.3, in the node's event loop.

Each node dials every peer, and sends on the connection it dialled; what it receives arrives on those it accepted. So
two nodes that dial each other at the same moment need no rule about whose connection wins. Nothing here blocks or
retries a frame: what can't be sent is dropped, and Raft sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from cluster.raft.framing import encode_frame
from cluster.raft.introduction import Introduction
from cluster.raft.peer_connection import Accepted, Dialled, PeerConnection


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Bounds of the connections; times in seconds."""

    frame_bytes_max: int = 16 << 20
    send_bytes_max: int = 32 << 20
    unauthenticated_max: int = 64
    handshake_timeout_s: float = 5.0
    # A peer that refuses at once is on its way up again; one that does not answer is not worth many attempts.
    retry_soon_s: float = 0.3
    retry_late_s: float = 2.0
    silence_max_s: float = 6.0
    same_log_line_s: float = 60.0
    # Nodes that a lagging state does not list; they have a certificate of this cluster all the same.
    strangers_max: int = 16
    # A member is heard about ten times as often; a process that was heard within this lives.
    alive_s: float = 1.0
    # For so long must another process of this member be told of: the connection of one that died may hang on a while.
    told_s: float = 3.0
    told_again_s: float = 10.0


class PeerAddress(NamedTuple):
    host: str
    port: int


class Links:
    """All connections of one node. Everything runs in the event loop that `listen` was called in."""

    def __init__(
        self,
        *,
        own: Introduction,
        identify: Callable[[bytes], tuple[str, str] | None],
        server_tls: ssl.SSLContext,
        client_tls: ssl.SSLContext,
        receive: Callable[[str, bytes], None],
        connected: Callable[[str], None],
        disconnected: Callable[[str], None],
        random: Random,
        log: FilteringBoundLogger,
        settings: LinkSettings = LinkSettings(),
        was_removed: Callable[[str], bool] = lambda _: False,
        told_of_removal: Callable[[str], None] = lambda _: None,
        told_of_another: Callable[[], None] = lambda: None,
        met: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`identify` gives (cluster id, member id) of a node's certificate (DER), None for any other certificate.

        `was_removed(member)`: it was a member once. `told_of_removal(peer)`: a peer says that this node is that.
        `told_of_another()`: peers say that another process speaks as this node. `met(member)`: a node that is not
        among the peers, but by its certificate of this cluster, has introduced itself; it is one of them from now on.
        """
        self.own = own
        self.identify = identify
        self.receive = receive
        self.settings = settings
        self.log = log
        self.was_removed = was_removed
        self.told_of_removal = told_of_removal
        self._told_of_another = told_of_another
        self._met = met
        self._told_since, self._told_last = 0.0, float("-inf")
        self._strangers: dict[str, PeerAddress] = {}
        self._listed: dict[str, PeerAddress] = {}
        self._server_tls = server_tls
        self._client_tls = client_tls
        self._connected = connected
        self._disconnected = disconnected
        self._random = random
        self._peers: dict[str, PeerAddress] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._outgoing: dict[str, Dialled] = {}
        self._incoming: dict[str, Accepted] = {}
        self._unauthenticated: dict[PeerConnection, None] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._greeting: dict[asyncio.Task[None], None] = {}
        self._logged: dict[tuple[str, str], float] = {}
        self._closed = False

    # What the node calls

    def listen(self, listening: socket.socket) -> None:
        """Accept peers on a bound, listening, non-blocking socket; it is closed with the links."""
        assert self._accepting is None, "listens already"
        self._accepting = asyncio.get_running_loop().create_task(self._accept(listening))

    def renew(self, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
        """For connections from now on; those that are open stay."""
        self._server_tls, self._client_tls = server_tls, client_tls

    def set_peers(self, peers: Mapping[str, PeerAddress]) -> None:
        """The other members, by member id. Connections of those no longer named end.

        A stranger that was met stays, until it is named, or was removed.
        """
        assert self.own.member_id not in peers, "a node is not its own peer"
        self._listed = dict(peers)
        self._strangers = {
            member_id: address
            for member_id, address in self._strangers.items()
            if member_id not in peers and not self.was_removed(member_id)
        }
        self._connect_to({**self._strangers, **peers})

    def _connect_to(self, peers: Mapping[str, PeerAddress]) -> None:
        for member_id in [m for m in self._peers if peers.get(m) != self._peers[m]]:
            self._dialling.pop(member_id).cancel()
            for connections in (self._outgoing, self._incoming):
                if (connection := connections.get(member_id)) is not None:
                    connection.end()
        new = [m for m in peers if m not in self._dialling]
        self._peers = dict(peers)
        for member_id in new:
            self._wake[member_id] = asyncio.Event()
            self._dialling[member_id] = asyncio.get_running_loop().create_task(self._dial(member_id))

    def send(self, member_id: str, frame: bytes) -> None:
        """Queue a frame for a peer; dropped where there is no connection."""
        connection = self._outgoing.get(member_id)
        if connection is None:
            return
        if not connection.send(encode_frame(frame), self.settings.send_bytes_max):
            self.say("peer_too_slow", member_id, waiting_bytes_max=self.settings.send_bytes_max)
            connection.end()

    def refuse(self, member_id: str, reason: str) -> None:
        """A frame of that peer was not one of a sound peer: say so, and end the connection that it came on."""
        self.say("peer_frame_refused", member_id, reason=reason)
        if (connection := self._incoming.get(member_id)) is not None:
            connection.end()

    def is_connected(self, member_id: str) -> bool:
        return member_id in self._outgoing

    async def close(self) -> None:
        """End all connections and tasks, without waiting for what is queued."""
        self._closed = True
        tasks = [*self._dialling.values(), *self._greeting, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        for connection in [*self._outgoing.values(), *self._incoming.values(), *self._unauthenticated]:
            connection.end()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):  # transports let go of their sockets in the next turns of the loop
            await asyncio.sleep(0)

    # What the connections call

    def admits(self, introduction: Introduction) -> bool:
        """Whether it is a peer's. One that this node's state does not list yet is taken in: it may be the leader.

        A node that was away while others joined would otherwise refuse the one that could tell it of them.
        """
        member_id = introduction.member_id
        if member_id in self._peers:
            return True
        full = len(self._strangers) >= self.settings.strangers_max
        if not introduction.host or not introduction.port or full or member_id == self.own.member_id:
            return False
        self.log.info("peer_met", peer=member_id)
        self._strangers[member_id] = PeerAddress(introduction.host, introduction.port)
        self._connect_to({**self._strangers, **self._listed})
        self._met(member_id)
        return True

    def is_elsewhere(self, introduction: Introduction) -> bool:
        """Whether another process of that member is there, and lives."""
        other = self._incoming.get(introduction.member_id)
        if other is None or other.session == introduction.session:
            return False
        return asyncio.get_running_loop().time() - other.received_at < self.settings.alive_s

    def told_of_another(self, by: str) -> None:
        """A peer hears another process of this member."""
        now = asyncio.get_running_loop().time()
        if now - self._told_last > self.settings.told_again_s:
            self._told_since = now
        self._told_last = now
        self.say("another_process", by, way_out="stop it, or this one: a copy of a node must never run")
        if now - self._told_since >= self.settings.told_s:
            self._told_of_another()

    def opened(self, connection: PeerConnection, member_id: str) -> None:
        """A connection's peer has shown who it is."""
        self._unauthenticated.pop(connection, None)
        if self._closed:
            connection.end()
        elif isinstance(connection, Dialled):
            self._outgoing[member_id] = connection
            self.log.info("peer_connected", peer=member_id)
            self._connected(member_id)
        elif isinstance(connection, Accepted):
            if (older := self._incoming.get(member_id)) is not None:
                older.end()
            self._incoming[member_id] = connection
            self._wake[member_id].set()  # it is up: dial it now

    def ended(self, connection: PeerConnection, member_id: str | None) -> None:
        """A connection is gone, whether or not it was ever opened."""
        self._unauthenticated.pop(connection, None)
        if member_id is None:
            return
        if self._incoming.get(member_id) is connection:
            del self._incoming[member_id]
        if self._outgoing.get(member_id) is connection:
            del self._outgoing[member_id]
            self.log.info("peer_disconnected", peer=member_id)
            if not self._closed:
                self._disconnected(member_id)

    def say(self, event: str, about: str, **fields: object) -> None:
        """Log a warning, but the same event about the same peer once a while, so that no stranger can fill the disk."""
        now = asyncio.get_running_loop().time()
        before = self._logged.get((event, about))
        if before is not None and now - before < self.settings.same_log_line_s:
            return
        if len(self._logged) >= 256:
            self._logged = {k: t for k, t in self._logged.items() if now - t < self.settings.same_log_line_s}
            if len(self._logged) >= 256:
                return
        self._logged[event, about] = now
        self.log.warning(event, peer=about, **fields)

    # Accepting

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, address = await loop.sock_accept(listening)
                except OSError as error:  # out of descriptors, or the peer was gone before we looked
                    self.say("peer_not_accepted", "", reason=error.strerror)
                    await asyncio.sleep(0.1)
                    continue
                if len(self._greeting) >= self.settings.unauthenticated_max:
                    next(iter(self._greeting)).cancel()  # the oldest: an honest handshake takes milliseconds
                self._welcome(accepted, str(address[0]))

    def _welcome(self, accepted: socket.socket, host: str) -> None:
        connection = Accepted(self, host)

        def done(task: asyncio.Task[None]) -> None:  # also where the task was cancelled before it began
            del self._greeting[task]
            self._unauthenticated.pop(connection, None)
            if not connection.is_open:
                connection.end()
                accepted.close()

        self._unauthenticated[connection] = None
        task = asyncio.get_running_loop().create_task(self._greet(connection, accepted, host))
        self._greeting[task] = None
        task.add_done_callback(done)

    async def _greet(self, connection: Accepted, accepted: socket.socket, host: str) -> None:
        """TLS and introduction of one accepted connection, within a time limit."""
        loop = asyncio.get_running_loop()
        try:
            _prepare(accepted, self.settings.silence_max_s)
            async with asyncio.timeout(self.settings.handshake_timeout_s):
                await loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._server_tls)
                await connection.introduced
        except (OSError, TimeoutError) as error:
            self.say("peer_refused", host, reason=describe(error))

    # Dialling

    async def _dial(self, member_id: str) -> None:
        """Keep one connection to a peer for as long as it is one."""
        delay = 0.0
        while True:
            connection = Dialled(self, member_id)
            longest = self.settings.retry_soon_s
            try:
                await self._connect(connection, self._peers[member_id])
                delay = 0.0
                await connection.closed
            except ConnectionRefusedError:
                pass  # nobody listens there yet
            except ssl.SSLError as error:
                connection.refusal = describe(error)
            except (OSError, TimeoutError) as error:
                longest = self.settings.retry_late_s
                self.say("peer_unreachable", member_id, reason=describe(error))
            finally:
                connection.end()
            if connection.refusal is not None:
                longest = self.settings.retry_late_s
                self.say("peer_refused", member_id, reason=connection.refusal)
            delay = min(max(delay * 2, 0.04), longest)
            self._wake[member_id].clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay * (0.5 + self._random.random() / 2)):
                    await self._wake[member_id].wait()

    async def _connect(self, connection: Dialled, address: PeerAddress) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self.settings.handshake_timeout_s):
            transport, _ = await loop.create_connection(lambda: connection, *address, ssl=self._client_tls)
            _prepare(transport.get_extra_info("socket"), self.settings.silence_max_s)
            await connection.introduced


def describe(error: BaseException) -> str:
    """A reason for the log, without the other side's bytes."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate: {error.verify_message}; give that node a valid certificate of this cluster"
        case ssl.SSLError():
            return f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}"
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return error.strerror or type(error).__name__
        case _:
            return type(error).__name__


def _prepare(connected: socket.socket, silence_max_s: float) -> None:
    """No delay for small frames; and notice a peer that vanished without a word."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(silence_max_s / 3)))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(silence_max_s / 3)))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence_max_s * 1000))
