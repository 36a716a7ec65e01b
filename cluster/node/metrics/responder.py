"""A small HTTP/1.1 server for three pages that are asked for with GET: strict, bounded, one answer a connection.

It runs in the loop that votes, so that an answer proves that the loop turns; what a stranger may cost it is bounded:
connections, bytes and seconds. Nothing of a request but its method and path is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

HEAD_BYTES_MAX: Final = 4_096
CONNECTIONS_MAX: Final = 16
REQUEST_S_MAX: Final = 5.0
ANSWER_S_MAX: Final = 10.0
BACKLOG: Final = 32

TEXT: Final = "text/plain; charset=utf-8"
_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,1000}) HTTP/1\.[01]")
_FIELD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t!-~\x80-\xff]*")
_BODY: Final = re.compile(rb"(?i)(?:content-length:(?![ \t]*0+[ \t]*$)|transfer-encoding:)")


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = TEXT


class HttpResponder:
    """`pages` by path; each is made when it is asked for, in the loop. `on_refused` is called for what gets no page."""

    def __init__(self, pages: Mapping[str, Callable[[], Page]], on_refused: Callable[[], None] = lambda: None) -> None:
        self._pages = dict(pages)
        self._on_refused = on_refused
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        self._server = await asyncio.start_server(
            self._connected, sock=listening, limit=HEAD_BYTES_MAX, backlog=BACKLOG, start_serving=True
        )

    async def close(self) -> None:
        """Stop listening, and end what is open."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            self._on_refused()
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            page = await self._answer(reader)
            if page is not None:
                writer.write(_packed(page))
                async with asyncio.timeout(ANSWER_S_MAX):
                    await writer.drain()
        except (OSError, TimeoutError):
            pass  # whoever asked is gone, or does not read
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> Page | None:
        """The page for what is asked; None where nobody asked anything."""
        try:
            async with asyncio.timeout(REQUEST_S_MAX):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return self._refused(HTTPStatus.REQUEST_TIMEOUT)
        except asyncio.LimitOverrunError:
            return self._refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except asyncio.IncompleteReadError as error:
            return self._refused(HTTPStatus.BAD_REQUEST) if error.partial else None
        status, path = parse_head(head)
        if status is not HTTPStatus.OK:
            return self._refused(status)
        make = self._pages.get(path)
        return make() if make is not None else self._refused(HTTPStatus.NOT_FOUND)

    def _refused(self, status: HTTPStatus) -> Page:
        self._on_refused()
        return Page(status, f"{status.phrase}\n".encode())


def parse_head(head: bytes) -> tuple[HTTPStatus, str]:
    """Whether a request may be answered, and its path without the query. `head` ends with an empty line."""
    request, *fields = head[:-4].split(b"\r\n")
    match = _REQUEST.fullmatch(request)
    if match is None or not all(_FIELD.fullmatch(field) for field in fields):
        return HTTPStatus.BAD_REQUEST, ""
    if match[1] != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, ""
    if any(_BODY.match(field) for field in fields):
        return HTTPStatus.BAD_REQUEST, ""
    return HTTPStatus.OK, match[2].decode("ascii").partition("?")[0]


def _packed(page: Page) -> bytes:
    allow = "Allow: GET\r\n" if page.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(page.body)}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
        f"{allow}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + page.body
