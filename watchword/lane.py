"""One VerifyStream at one endpoint: sends requests as they come, and tells the answers and its end."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import grpc.aio

from watchword import errors
from watchword.v1.authentication_pb2 import VerifyBatch, VerifyRequest, VerifyResult, VerifyResults
from watchword.verification import Verification

BATCH_REQUESTS_MAX = 512
BATCH_BYTES_MAX = 60 * 1024  # a message may have 64 KiB
END_S_MAX = 2.0

Call: TypeAlias = "grpc.aio.StreamStreamCall[VerifyBatch, VerifyResults]"


@dataclass(slots=True, eq=False)
class Pending:
    """One request until it is answered.  `deadline` is in seconds of the event loop's clock."""

    request: VerifyRequest
    size: int
    deadline: float
    answer: asyncio.Future[Verification]
    failures: list[errors.Unavailable] = field(default_factory=list)
    sent_at: float = 0.0  # when it was given to a stream
    attempts: int = 0

    @property
    def request_id(self) -> str:
        return self.request.request_id


class Lane:
    """One stream.  `begin` makes the call; `on_result` and `on_end` are called in the loop.

    `on_end` comes once, with what the stream ended with (None where it ended in good order); what is still in
    `unanswered` then has no answer and gets none here.  A stream of which nothing is heard for `silence_s`, while
    something waits that long for an answer, is given up.
    """

    def __init__(
        self,
        endpoint: str,
        begin: Callable[[], Call],
        *,
        attempt_s: float,
        silence_s: float,
        on_result: Callable[[Pending, VerifyResult], None],
        on_end: Callable[["Lane", Exception | None], None],
    ) -> None:
        self.endpoint = endpoint
        self.unanswered: dict[str, Pending] = {}  # by request id, in the order in which they came
        self._attempt_s = attempt_s
        self._silence_s = silence_s
        self._on_result = on_result
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Pending] = deque()
        self._more = asyncio.Event()
        self._heard_at = self._loop.time()
        self._silent = self._given_up = False
        self._finishing = False
        self._watch: asyncio.TimerHandle | None = None
        self._call = begin()
        self._writer = self._loop.create_task(self._write())
        self._reader = self._loop.create_task(self._read())

    def send(self, pending: Pending) -> None:
        """At once where nothing is being sent; otherwise with whatever else comes before the next message."""
        assert not self._finishing, "a stream that is being finished takes nothing more"
        pending.sent_at = self._loop.time()
        self.unanswered.pop(pending.request_id, None)  # it keeps the order of time
        self.unanswered[pending.request_id] = pending
        self._queue.append(pending)
        self._more.set()
        if self._watch is None:
            self._watch = self._loop.call_later(self._silence_s, self._look)

    async def finish(self) -> None:
        """Send no more, and wait a short time for the end."""
        self._finishing = True
        self._more.set()
        await asyncio.wait({self._reader}, timeout=END_S_MAX)
        self.abandon()
        await asyncio.wait({self._reader})

    def abandon(self) -> None:
        """End it at once."""
        self._given_up = True
        self._call.cancel()

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._queue:
                batch = self._next_batch()
                if batch is None:
                    break
                try:
                    await self._call.write(batch)
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    return  # the reader tells why
            if self._finishing:
                with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await self._call.done_writing()
                return

    def _next_batch(self) -> VerifyBatch | None:
        """What waits, as far as it fits into a message; without those whose callers are gone."""
        now = self._loop.time()
        batch, size, longest_s = VerifyBatch(), 0, 0.0
        while self._queue and len(batch.requests) < BATCH_REQUESTS_MAX:
            pending = self._queue[0]
            if pending.answer.done():
                self._queue.popleft()
                if self.unanswered.get(pending.request_id) is pending:
                    del self.unanswered[pending.request_id]
                continue
            if batch.requests and size + pending.size > BATCH_BYTES_MAX:
                break
            self._queue.popleft()
            batch.requests.append(pending.request)
            size += pending.size
            longest_s = max(longest_s, pending.deadline - now)
        batch.timeout_ms = max(1, int(min(longest_s, self._attempt_s) * 1000))
        return batch if batch.requests else None

    async def _read(self) -> None:
        error: Exception | None = None
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                assert isinstance(message, VerifyResults), "the stub decodes nothing else"
                self._heard_at = self._loop.time()
                for result in message.results:
                    pending = self.unanswered.pop(result.request_id, None)
                    if pending is not None:
                        self._on_result(pending, result)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as ended:
            error = self._why(ended)
        except asyncio.CancelledError as ended:
            if not self._given_up:
                raise  # the program ends, and nobody waits for an answer
            error = self._why(ended)
        finally:
            self._writer.cancel()
            if self._watch is not None:
                self._watch.cancel()
        self._on_end(self, error)

    def _why(self, ended: BaseException) -> Exception:
        if self._silent:
            return errors.NoAnswerInTime(
                f"no answer in time from {self.endpoint}",
                advice="look at `watchword status` and that node's log, then repeat it",
            )
        if isinstance(ended, grpc.aio.AioRpcError):
            return ended
        return errors.Unavailable("the stream was closed", reason="CLOSED", advice="repeat it with the same request id")

    def _look(self) -> None:
        """Give the stream up where it is silent though something waits."""
        self._watch = None
        oldest = next(iter(self.unanswered.values()), None)
        if oldest is None:
            return
        silent_at = max(oldest.sent_at, self._heard_at) + self._silence_s
        if self._loop.time() < silent_at:
            self._watch = self._loop.call_at(silent_at, self._look)
            return
        self._silent = True
        self.abandon()
