"""One VerifyStream as a test's client holds it, and an HTTP/2 client that can stop in the middle of a message."""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Self

import grpc
from grpc import aio

from tests.services.certificates import Authority, Leaf
from tests.services.door import Door
from watchword.v1 import authentication_pb2_grpc
from watchword.v1.authentication_pb2 import VerifyBatch, VerifyRequest, VerifyResult

WAIT_S = 20.0


def requests(*request_ids: str, **fields: Any) -> list[VerifyRequest]:
    given = {"user_id": "alice", "passcode": "1", **fields}
    return [VerifyRequest(**{"request_id": each, **given}) for each in request_ids]


class Stream:
    """Of the client of that name."""

    def __init__(self, door: Door, name: str = "frontend", *options: tuple[str, int]) -> None:
        self.call = authentication_pb2_grpc.AuthenticationStub(door.channel(name, *options)).VerifyStream()

    async def send(self, batch: Iterable[VerifyRequest], timeout_ms: int = 0) -> None:
        async with asyncio.timeout(WAIT_S):
            await self.call.write(VerifyBatch(requests=batch, timeout_ms=timeout_ms))

    async def message(self) -> list[VerifyResult]:
        """The results of the next message; none at the end of the stream."""
        async with asyncio.timeout(WAIT_S):
            message = await self.call.read()
        return [] if message is aio.EOF else list(message.results)

    async def results(self, count: int) -> dict[str, VerifyResult]:
        """That many results, by request id; each comes once."""
        found: list[VerifyResult] = []
        while len(found) < count:
            message = await self.message()
            assert message, f"the stream ended after {len(found)} of {count} answers"
            found += message
        by_id = {each.request_id: each for each in found}
        assert len(by_id) == count, "an id was answered twice"
        return by_id

    async def end(self) -> grpc.StatusCode:
        """Send no more, and wait for what the node says to that."""
        await self.call.done_writing()
        async with asyncio.timeout(WAIT_S):
            return await self.call.code()

    async def error(self) -> aio.AioRpcError:
        """What the stream ends with, of itself; its answers are left unread."""
        try:
            while await self.message():
                pass
        except aio.AioRpcError as error:
            return error
        raise AssertionError("the stream ended without an error")

    def cancel(self) -> None:
        self.call.cancel()


class RawHttp2:
    """HTTP/2 by hand (RFC 9113), as far as it takes to begin a call and to send any bytes on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, authority: Authority, leaf: Leaf, address: str, directory: Any) -> Self:
        (directory / "certificate.pem").write_bytes(leaf.certificate_pem)
        (directory / "key.pem").write_bytes(leaf.key_pem)
        context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
        context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        connection = cls(reader, writer)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        connection._frame(4, 0, 0, b"")  # SETTINGS
        return connection

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        self._writer.write(head + payload)

    async def begin(self, method: str, host: str) -> None:
        fields = {
            ":method": "POST",
            ":scheme": "https",
            ":path": method,
            ":authority": host,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        # Literals without indexing and without Huffman's code (RFC 7541, 6.2.2); all are shorter than 127 bytes.
        block = b"".join(
            b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
            for name, value in fields.items()
        )
        self._frame(1, 4, 1, block)  # HEADERS, END_HEADERS
        await self._writer.drain()

    async def send(self, data: bytes, *, last: bool) -> None:
        self._frame(0, 1 if last else 0, 1, data)  # DATA
        await self._writer.drain()

    async def received(self) -> bytes:
        """Until the server has ended the call (trailers or reset) or the connection."""
        got = b""
        async with asyncio.timeout(WAIT_S):
            while True:
                head = await self._reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                payload = await self._reader.readexactly(length)
                got += payload
                if (kind == 1 and flags & 1) or kind in (3, 7):  # END_STREAM, RST_STREAM, GOAWAY
                    return got

    async def close(self) -> None:
        self._writer.transport.abort()
        await asyncio.sleep(0)
