"""The metrics port: three pages for GET, and an end to everything else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.node.metrics import responder
from cluster.node.metrics.responder import CONNECTIONS_MAX, HEAD_BYTES_MAX, HttpResponder, Page, parse_head


class Port:
    def __init__(self, number: int) -> None:
        self.number = number
        self.refused = 0

    async def ask(self, *parts: bytes) -> bytes:
        """All that comes back, until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.number)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            async with asyncio.timeout(20):
                return await reader.read()
        finally:
            writer.close()

    async def status(self, *parts: bytes) -> int:
        answer = await self.ask(*parts)
        return int(answer.split(b" ", 2)[1])


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port = Port(listening.getsockname()[1])

    def refused() -> None:
        port.refused += 1

    pages = {
        "/metrics": lambda: Page(HTTPStatus.OK, b"up 1\n"),
        "/readyz": lambda: Page(HTTPStatus.SERVICE_UNAVAILABLE, b"no\n"),
    }
    server = HttpResponder(pages, refused)
    await server.start(listening)
    yield port
    await server.close()


async def test_a_page_comes_with_its_length_and_the_end_of_the_connection(port: Port) -> None:
    head, _, body = (await port.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    assert body == b"up 1\n"
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 5\r\n" in head
    assert head.endswith(b"\r\nConnection: close")
    assert port.refused == 0


async def test_a_query_changes_nothing_and_a_page_has_its_own_status(port: Port) -> None:
    assert await port.status(b"GET /metrics?a=b HTTP/1.0\r\n\r\n") == 200
    assert await port.status(b"GET /readyz HTTP/1.1\r\n\r\n") == 503


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\nHost: x\n\n\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"\0" * 100 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 2_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"a" * 100_000, 431),
    ],
)
async def test_everything_else_is_refused(port: Port, request_: bytes, status: int) -> None:
    assert await port.status(request_) == status
    assert port.refused == (status != 200)


async def test_a_request_may_come_in_pieces(port: Port) -> None:
    assert await port.status(b"GET /met", b"rics HTTP/1.1\r", b"\n\r\n") == 200


async def test_who_asks_nothing_gets_nothing(port: Port) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


async def test_half_a_request_is_refused_when_it_ends_or_when_its_time_is_over(
    port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "REQUEST_S_MAX", 0.05)
    assert await port.status(b"GET /metrics HTTP/1.1\r\n") == 408


async def test_more_connections_than_may_be_are_ended_at_once_and_the_others_go_on(port: Port) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", port.number) for _ in range(CONNECTIONS_MAX)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
    with contextlib.suppress(ConnectionError):
        # The server takes its connections in order, so this one is beyond the bound.
        assert await reader.read() == b""
    writer.close()
    assert port.refused == 1
    first_reader, first_writer = silent[0]
    first_writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    assert (await first_reader.read()).startswith(b"HTTP/1.1 200")
    for _, each in silent:
        each.close()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_head_is_taken_for_another(data: bytes) -> None:
    status, path = parse_head(data + b"\r\n\r\n")
    assert (status is HTTPStatus.OK) == path.startswith("/")
