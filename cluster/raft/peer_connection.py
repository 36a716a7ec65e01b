"""One connection between two nodes, after TLS: introduction first, frames after it.

dialling side                           accepting side
Dialled: sends its introduction   --->  Accepted: checks it against the certificate
checks the answer                 <---  its own introduction, or a refusal and the end
sends frames                      --->  receives frames
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

from cluster.raft.framing import FrameDecoder, FramingError, encode_frame
from cluster.raft.introduction import (
    INTRODUCTION_BYTES_MAX,
    Introduction,
    RefusedError,
    RemovedError,
    TwiceError,
    check_introduction,
    decode_introduction,
    encode_introduction,
    encode_refusal,
)

# For as long a refused peer may read why.
REFUSAL_LINGERS_S = 0.2


class Bounds(Protocol):
    @property
    def frame_bytes_max(self) -> int: ...


class Owner(Protocol):
    """What a connection needs of the links it belongs to."""

    own: Introduction

    @property
    def settings(self) -> Bounds: ...
    def identify(self, certificate: bytes, /) -> tuple[str, str] | None: ...
    def receive(self, member_id: str, frame: bytes, /) -> None: ...
    def admits(self, introduction: Introduction) -> bool: ...
    def is_elsewhere(self, introduction: Introduction) -> bool: ...
    def told_of_another(self, by: str) -> None: ...
    def was_removed(self, member_id: str, /) -> bool: ...
    def told_of_removal(self, by: str) -> None: ...
    def opened(self, connection: PeerConnection, member_id: str) -> None: ...
    def ended(self, connection: PeerConnection, member_id: str | None) -> None: ...
    def say(self, event: str, about: str, **fields: object) -> None: ...


class PeerConnection(asyncio.Protocol):
    """Common to both sides: the transport, the decoder, and the end."""

    def __init__(self, owner: Owner) -> None:
        loop = asyncio.get_running_loop()
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._decoder = FrameDecoder(INTRODUCTION_BYTES_MAX)
        self._ended = False
        self.member_id: str | None = None  # once the peer has shown who it is
        self.refusal: str | None = None
        self.introduced: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    @property
    def is_open(self) -> bool:
        return self.member_id is not None and not self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        if self._ended:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._ended or self.refusal is not None:
            return
        self._decoder.feed(data)
        try:
            while not self._ended and self.refusal is None and (frame := self._decoder.next_frame()) is not None:
                if self.member_id is None:
                    self._introduction_received(frame)
                else:
                    self._frame_received(frame)
        except (RefusedError, FramingError) as error:
            self._refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the interface's
        self.end()

    def end(self) -> None:
        """Close at once; what is queued is lost."""
        if self._ended:
            return
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
        self._settle()
        self._owner.ended(self, self.member_id)

    def _settle(self) -> None:
        for future in (self.introduced, self.closed):
            if not future.done():
                future.set_result(None)

    def _open(self, member_id: str) -> None:
        self.member_id = member_id
        self._decoder.bytes_max = self._owner.settings.frame_bytes_max
        self._owner.opened(self, member_id)
        if not self.introduced.done():
            self.introduced.set_result(None)

    def _check(self, frame: bytes) -> Introduction:
        other = decode_introduction(frame)
        check_introduction(self._owner.own, other, self._certified())
        return other

    def _certified(self) -> tuple[str, str] | None:
        """Cluster and member by the certificate of the other side."""
        assert self._transport is not None, "frames come after the connection"
        tls: ssl.SSLObject = self._transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True)
        return self._owner.identify(certificate) if certificate else None

    def _introduction_received(self, frame: bytes) -> None:
        raise NotImplementedError

    def _frame_received(self, frame: bytes) -> None:
        raise NotImplementedError

    def _refuse(self, error: Exception) -> None:
        self.refusal = str(error)
        self.end()


class Dialled(PeerConnection):
    """Ours to send on."""

    def __init__(self, owner: Owner, expected: str) -> None:
        super().__init__(owner)
        self._expected = expected
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._transport is not None and not self._ended:
            self._transport.write(encode_frame(encode_introduction(self._owner.own)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.member_id is None and self.refusal is None and not self._ended:
            # Which is all that one is told where the other side's TLS does not take our certificate.
            self.refusal = "the peer ended the connection before it introduced itself; its log says why"
        super().connection_lost(exc)

    def send(self, framed: bytes, waiting_bytes_max: int) -> bool:
        """Queue a frame with its length; those of one turn of the loop leave in one write. False: too much waits."""
        assert self._transport is not None, "opened connections have a transport"
        self._waiting_bytes += len(framed)
        if self._transport.get_write_buffer_size() + self._waiting_bytes > waiting_bytes_max:
            return False
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(framed)
        return True

    def _flush(self) -> None:
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if self._transport is not None and not self._ended:
            self._transport.write(b"".join(waiting))

    def _introduction_received(self, frame: bytes) -> None:
        other = self._check(frame)
        if other.member_id != self._expected:
            raise RefusedError(
                f"its address is answered by member {other.member_id}; correct the address of one of them"
            )
        self._open(other.member_id)

    def _refuse(self, error: Exception) -> None:
        believed = (self._owner.own.cluster_id, self._expected)
        actionable = isinstance(error, RemovedError | TwiceError) and self._certified() == believed
        super()._refuse(error)
        if actionable and isinstance(error, RemovedError):
            self._owner.told_of_removal(self._expected)
        elif actionable:
            self._owner.told_of_another(self._expected)

    def _frame_received(self, frame: bytes) -> None:
        raise RefusedError(f"the peer sent {len(frame)} bytes on the connection that is ours to send on")


class Accepted(PeerConnection):
    """Ours to receive on."""

    def __init__(self, owner: Owner, host: str) -> None:
        super().__init__(owner)
        self._host = host
        self.session = ""
        self.received_at = 0.0

    def _introduction_received(self, frame: bytes) -> None:
        other = self._check(frame)
        if self._owner.was_removed(other.member_id):
            raise RemovedError(f"member {other.member_id} was removed from this cluster")
        if self._owner.is_elsewhere(other):
            raise TwiceError(f"member {other.member_id} speaks from another process, too; never run a copy of a node")
        if not self._owner.admits(other):
            raise RefusedError(f"member {other.member_id} is not a member of this cluster; it must join first")
        self.session = other.session
        assert self._transport is not None, "frames come after the connection"
        self._transport.write(encode_frame(encode_introduction(self._owner.own)))
        self._open(other.member_id)

    def _frame_received(self, frame: bytes) -> None:
        assert self.member_id is not None, "frames come after the introduction"
        self.received_at = asyncio.get_running_loop().time()
        self._owner.receive(self.member_id, frame)

    def _refuse(self, error: Exception) -> None:
        """Say so in our log, and to the peer, so that its operator reads it where they look first."""
        reason = str(error)
        self._owner.say("peer_refused", self.member_id or self._host, reason=reason)
        self.refusal = reason
        if self._transport is None or self.member_id is not None:
            self.end()
            return
        self._transport.write(encode_frame(encode_refusal(error)))
        asyncio.get_running_loop().call_later(REFUSAL_LINGERS_S, self.end)
