"""Authentication.VerifyStream: many sign-ins on one stream, answered in any order, with a bound on what is under way.

    messages --> reader: the role, the bounds, room --> proposals --> results --> writer --> messages

The reader takes a request when there is room for it, on its stream and on the node, and stops reading until there is;
then HTTP/2 holds the client back. A request holds its place on the stream until its answer is written, so that a client
that does not read its answers is not read either; and its place on the node until there is an answer, so that such a
client takes nobody else's. What is answered in one turn of the loop, or during a write, goes out in one message.
"""

from __future__ import annotations  # gRPC's types are generic in their stubs only

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.deadline import less_margin_s
from cluster.services.gate import Caller, current_caller
from cluster.services.status import CallError, Reason, deadline_passed, exhausted, invalid, unavailable
from cluster.state.results import Result
from watchword.v1 import authentication_pb2 as messages

Context: TypeAlias = aio.ServicerContext[Any, Any]

TIMEOUT_MS_DEFAULT: Final = round(limits.DEADLINE_S_DEFAULT * 1000)
TIMEOUT_MS_MAX: Final = round(limits.DEADLINE_S_MAX * 1000)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """As cluster.services.limits has them; tests have smaller ones."""

    streams: int = limits.VERIFY_STREAMS_MAX
    streams_per_identity: int = limits.VERIFY_STREAMS_PER_IDENTITY_MAX
    in_flight: int = limits.STREAM_REQUESTS_IN_FLIGHT_MAX
    in_flight_node: int = limits.NODE_STREAM_REQUESTS_MAX
    batch_requests: int = limits.BATCH_REQUESTS_MAX
    write_s: float = limits.STREAM_WRITE_S_MAX
    roles_interval_s: float = limits.STREAM_ROLES_INTERVAL_S


# Begins one request in a client's name, with that many seconds; the answer comes once, and not from within.
Begin: TypeAlias = Callable[[messages.VerifyRequest, str, float, Callable[[Result | CallError], None]], None]
# How a client is told a result; made anew for each message, since its roles may have changed.
Respond: TypeAlias = Callable[[Result], messages.VerifyResponse]


class VerifyStreams:
    """All streams of a node. `begin` raises CallError for a request that is refused at once."""

    def __init__(
        self, begin: Begin, respond_to: Callable[[str], Respond], stream_limits: StreamLimits | None = None
    ) -> None:
        self._begin = begin
        self._respond_to = respond_to
        self._limits = stream_limits or StreamLimits()
        self._room = asyncio.Semaphore(self._limits.in_flight_node)
        self._places: Counter[str] = Counter()  # streams, by identity
        self._streams: set[_Stream] = set()
        self._draining = False

    @property
    def in_flight(self) -> int:
        """Requests read of all streams and not yet written as answers."""
        return sum(stream.in_flight for stream in self._streams)

    @property
    def open(self) -> int:
        return self._places.total()

    def drain(self) -> None:
        """Read no more, and end every stream when what it has under way is answered; open no other."""
        self._draining = True
        for stream in self._streams:
            stream.drain()

    async def serve(self, batches: AsyncIterator[messages.VerifyBatch], context: Context) -> None:
        """One stream, from its beginning to its end. Raises CallError where it ends with an error."""
        caller = current_caller()
        self._take_place(caller.identity, context)
        stream = _Stream(self._begin, self._respond_to, caller, self._room, self._limits)
        self._streams.add(stream)
        try:
            await stream.run(batches, context)
        finally:
            self._streams.discard(stream)

    def _take_place(self, identity: str, context: Context) -> None:
        if self._draining:
            raise stopping()
        if self.open >= self._limits.streams or self._places[identity] >= self._limits.streams_per_identity:
            raise exhausted(Reason.TOO_MANY_CALLS, "as many streams are open as may be", "use those that are open")
        self._places[identity] += 1
        # Until gRPC is done with it, also with the status that a client does not read.
        # The stub names a class where any function will do.
        context.add_done_callback(lambda _context: self._give_place(identity))  # type: ignore[arg-type]

    def _give_place(self, identity: str) -> None:
        self._places[identity] -= 1
        if not self._places[identity]:
            del self._places[identity]


class _Stream:
    """One open stream."""

    def __init__(
        self,
        begin: Begin,
        respond_to: Callable[[str], Respond],
        caller: Caller,
        node_room: asyncio.Semaphore,
        stream_limits: StreamLimits,
    ) -> None:
        self._begin = begin
        self._respond_to = respond_to
        self._caller = caller
        self._limits = stream_limits
        self._node_room = node_room
        self._room = asyncio.Semaphore(stream_limits.in_flight)
        self.in_flight = 0  # read, and not yet written as an answer
        self._answers: list[tuple[str, Result | CallError]] = []
        self._turn = asyncio.Event()  # there is something for the writer to look at
        self._writing: asyncio.Timeout | None = None
        self._cut: CallError | None = None  # why it ends at once
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._reader: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def run(self, batches: AsyncIterator[messages.VerifyBatch], context: Context) -> None:
        """Read, and write, until the client has ended its side and has its answers.

        Raises:
            CallError: it ends otherwise.
        """
        reader = self._reader = self._loop.create_task(self._read(batches))
        reader.add_done_callback(lambda _reader: self._turn.set())
        self._look_again()
        try:
            while self._cut is None and (self._answers or self.in_flight or not reader.done()):
                if self._answers:
                    await self._write(context)
                else:
                    self._turn.clear()
                    await self._turn.wait()
            if self._cut is not None:
                raise self._cut
            if reader.cancelled():
                raise stopping()
            reader.result()  # or what it refused
        finally:
            self._over = True
            self._answers.clear()
            assert self._watch is not None, "it was begun above"
            self._watch.cancel()
            reader.cancel()

    def drain(self) -> None:
        """Read no more; what was read is answered."""
        assert self._reader is not None, "streams are drained while they run"
        self._reader.cancel()

    # The right to be here

    def _look_again(self) -> None:
        self._authorise()
        self._watch = self._loop.call_later(self._limits.roles_interval_s, self._look_again)

    def _authorise(self) -> None:
        try:
            self._caller.authorise()
        except CallError as error:
            self._cut = error
            self._turn.set()
            if self._writing is not None:
                self._writing.reschedule(self._loop.time())

    # In

    async def _read(self, batches: AsyncIterator[messages.VerifyBatch]) -> None:
        async for batch in batches:
            self._authorise()
            if self._cut is not None:
                return
            await self._take(batch)

    async def _take(self, batch: messages.VerifyBatch) -> None:
        """Begin every request of one message, as there is room. Raises CallError, and then has begun none."""
        if len(batch.requests) > self._limits.batch_requests:
            raise invalid("requests", f"must be at most {self._limits.batch_requests:,}")
        timeout_ms = fields.within("timeout_ms", batch.timeout_ms or TIMEOUT_MS_DEFAULT, 1, TIMEOUT_MS_MAX)
        deadline = self._loop.time() + less_margin_s(timeout_ms / 1000)
        for request in batch.requests:
            await self._room.acquire()
            await self._node_room.acquire()
            self._begin_one(request, deadline)

    def _begin_one(self, request: messages.VerifyRequest, deadline: float) -> None:
        request_id = request.request_id
        self.in_flight += 1
        left_s = deadline - self._loop.time()
        if left_s <= 0:
            self._answered(request_id, deadline_passed())
            return
        try:
            self._begin(request, self._caller.identity, left_s, partial(self._answered, request_id))
        except CallError as error:
            self._answered(request_id, error)
        except BaseException:
            self.in_flight -= 1  # nothing will answer it, and the stream ends by this
            self._node_room.release()
            raise

    def _answered(self, request_id: str, outcome: Result | CallError) -> None:
        self._node_room.release()
        if not self._over:
            self._answers.append((request_id, outcome))
            self._turn.set()

    # Out

    async def _write(self, context: Context) -> None:
        """One message with the answers that there are, as far as they fit."""
        respond = self._respond_to(self._caller.identity)
        count = size = 0
        message = messages.VerifyResults()
        for request_id, outcome in self._answers[: limits.RESULTS_MAX]:
            fill(message.results.add(), request_id, outcome, respond)
            count += 1
            size += len(request_id)  # which may be far too long, and goes back as it came
            if size > limits.RESULTS_BYTES_MAX:
                break
        del self._answers[:count]
        try:
            async with asyncio.timeout(self._limits.write_s) as self._writing:
                await context.write(message)
        except TimeoutError:
            raise self._cut or exhausted(
                Reason.ANSWERS_NOT_READ, "the answers were not read in time", "read them as they come"
            ) from None
        finally:
            self._writing = None
        self.in_flight -= count
        for _ in range(count):
            self._room.release()


def fill(result: messages.VerifyResult, request_id: str, outcome: Result | CallError, respond: Respond) -> None:
    result.request_id = request_id
    if isinstance(outcome, CallError):
        result.error.CopyFrom(outcome.status())
    else:
        result.response.CopyFrom(respond(outcome))


def stopping() -> CallError:
    return unavailable(Reason.STOPPING, "this node is stopping", "send what has no answer to another node, unchanged")
