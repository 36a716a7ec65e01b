"""Many sign-ins over one stream: what is asked at the same time goes out in one message, and nothing waits for more.

A request that finds nothing being sent goes out at once; what comes while a message is being sent shares the next.
A request whose node does not answer goes to the next one with the same request id, until its time is over.

    async with Client(load_profile(path)) as client, client.stream() as verifier:
        verification = await verifier.verify("alice", passcode)
        if verification.accepted: ...
"""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from watchword import errors
from watchword.failover import FailoverPolicy
from watchword.lane import BATCH_BYTES_MAX, Call, Lane, Pending
from watchword.status import RETRIED, details_of, error_of, failed_of, preferred
from watchword.v1.authentication_pb2 import VerifyResult
from watchword.verification import Verification, verification_of, verify_request

IN_FLIGHT_MAX = 4_096
SILENCE_S_MORE = 0.5  # beyond the time that a node has for an answer


class _Endpoint:
    """A node, the stream to it where there is one, and until when it is better left alone."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lane: Lane | None = None
        self.failures = 0
        self.retry_at = 0.0


class CoalescingVerifier:
    """Made by `Client.stream`, for one event loop; close it, or use it as a context manager.

    At most `in_flight_max` requests are under way; who comes when there are as many waits, within the time of its call.
    """

    def __init__(
        self,
        begin: Callable[[str], Call],
        endpoints: Sequence[str],
        *,
        first: int,
        timeout_s: float,
        policy: FailoverPolicy,
        in_flight_max: int,
        random: Callable[[], float],
        new_request_id: Callable[[], str],
    ) -> None:
        assert in_flight_max > 0, "at least one request must be allowed under way"
        self._begin = begin
        self._endpoints = [_Endpoint(name) for name in endpoints]
        self._first = first
        self._timeout_s = timeout_s
        self._policy = policy
        self._room = asyncio.Semaphore(in_flight_max)
        self._random = random
        self._new_request_id = new_request_id
        self._pending: dict[str, Pending] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return len(self._pending)

    async def verify(
        self,
        user_id: str,
        passcode: str,
        *,
        token_id: str | None = None,
        application: str = "",
        address: str = "",
        request_id: str | None = None,
    ) -> Verification:
        """One authentication, as `Client.verify`.  Only `accepted` lets somebody in."""
        request_id = self._new_request_id() if request_id is None else request_id
        request = verify_request(
            request_id, user_id, passcode, token_id=token_id, application=application, address=address
        )
        size = request.ByteSize() + 8
        if size > BATCH_BYTES_MAX:
            raise errors.InvalidArgument(f"the request is larger than {BATCH_BYTES_MAX} bytes", advice="shorten it")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        await self._enter(deadline)
        try:
            pending = Pending(request, size, deadline, loop.create_future())
            self._check_unused(pending)
            return await self._answer(pending)
        finally:
            self._room.release()

    async def close(self) -> None:
        """Take nothing more, wait for what is under way (at most the time of a call), and end the streams."""
        self._closed = True
        await self._idle.wait()
        await asyncio.gather(*(each.lane.finish() for each in self._endpoints if each.lane is not None))

    def abandon(self) -> None:
        """Take nothing more, and end the streams at once: what is under way fails with `Unavailable`."""
        self._closed = True
        for pending in self._pending.values():
            self._fail(pending, _closed())
        for endpoint in self._endpoints:
            if endpoint.lane is not None:
                endpoint.lane.abandon()

    # One request

    async def _enter(self, deadline: float) -> None:
        if self._room.locked():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._room.acquire()
            except TimeoutError:
                raise errors.Overloaded(
                    "as many requests are under way as may", advice="ask for less at a time, or wait longer"
                ) from None
        else:
            await self._room.acquire()
        if self._closed:
            self._room.release()
            raise _closed()

    def _check_unused(self, pending: Pending) -> None:
        """Answers are known by the id alone: two requests under way must not share it, also where one was given up."""
        given_up = (each.lane.unanswered.get(pending.request_id) for each in self._endpoints if each.lane is not None)
        if pending.request_id in self._pending or any(
            other is not None and other.request != pending.request for other in given_up
        ):
            raise errors.InvalidArgument(
                "a request with this id is under way", field="request_id", advice="use another for each attempt"
            )

    async def _answer(self, pending: Pending) -> Verification:
        self._pending[pending.request_id] = pending
        self._idle.clear()
        timer = asyncio.get_running_loop().call_at(pending.deadline, self._expire, pending)
        try:
            self._dispatch(pending)
            return await pending.answer
        finally:
            timer.cancel()
            pending.answer.cancel()  # where the caller is gone, it is not sent any more
            del self._pending[pending.request_id]
            if not self._pending:
                self._idle.set()

    def _expire(self, pending: Pending) -> None:
        late = errors.NoAnswerInTime("no answer in time", advice="look at `watchword status`, then repeat it")
        self._fail(pending, preferred(pending.failures) if pending.failures else late)

    def _fail(self, pending: Pending, error: errors.WatchwordError) -> None:
        if not pending.answer.done():
            pending.answer.set_exception(error)

    def _dispatch(self, pending: Pending) -> None:
        """Give it to a stream now, or later where every node is better left alone for a while."""
        if pending.answer.done():
            return
        loop = asyncio.get_running_loop()
        endpoint = self._choose(loop.time())
        if endpoint.retry_at > loop.time():
            loop.call_at(endpoint.retry_at, self._dispatch, pending)
            return
        pending.attempts += 1
        self._lane_of(endpoint).send(pending)

    def _choose(self, now: float) -> _Endpoint:
        """The node that answered last; where it failed lately the next, or the one that may be tried soonest."""
        count = len(self._endpoints)
        ring = [self._endpoints[(self._first + step) % count] for step in range(count)]
        return next((each for each in ring if each.retry_at <= now), min(ring, key=lambda each: each.retry_at))

    def _try_again(self, pending: Pending, error: errors.Unavailable, wait_s: float = 0.0) -> None:
        pending.failures.append(error)
        rounds = pending.attempts // len(self._endpoints)
        if rounds:
            wait_s = max(wait_s, self._backoff_s(rounds))
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._dispatch, pending)
        else:
            self._dispatch(pending)

    def _backoff_s(self, times: int) -> float:
        most_s = min(self._policy.backoff_first_s * 2.0 ** min(times - 1, 32), self._policy.backoff_s_max)
        return most_s * (0.5 + self._random() / 2)

    # Streams

    def _lane_of(self, endpoint: _Endpoint) -> Lane:
        if endpoint.lane is None:
            endpoint.lane = Lane(
                endpoint.name,
                lambda: self._begin(endpoint.name),
                attempt_s=self._policy.attempt_s_max,
                silence_s=self._policy.attempt_s_max + SILENCE_S_MORE,
                on_result=lambda pending, result: self._result(endpoint, pending, result),
                on_end=lambda lane, error: self._ended(endpoint, lane, error),
            )
        return endpoint.lane

    def _result(self, endpoint: _Endpoint, pending: Pending, result: VerifyResult) -> None:
        if result.WhichOneof("outcome") == "error":
            self._result_failed(endpoint, pending, result)
            return
        endpoint.failures, endpoint.retry_at = 0, 0.0
        if not pending.answer.done():
            # Without a decision it is a rejection, as for one that is not known.
            pending.answer.set_result(verification_of(result.response))

    def _result_failed(self, endpoint: _Endpoint, pending: Pending, result: VerifyResult) -> None:
        failed = failed_of(result.error, endpoint.name)
        if failed.code not in RETRIED or not isinstance(failed.error, errors.Unavailable):
            self._fail(pending, failed.error)
        elif isinstance(failed.error, errors.Overloaded):
            self._try_again(pending, failed.error, max(failed.retry_after_s, self._backoff_s(1)))
        else:
            self._avoid(endpoint)
            self._try_again(pending, failed.error)

    def _avoid(self, endpoint: _Endpoint) -> None:
        """Ask others first for a while: longer with each time in a row, but once for all that fail together."""
        now = asyncio.get_running_loop().time()
        if endpoint.retry_at <= now:
            endpoint.failures += 1
            endpoint.retry_at = now + self._backoff_s(endpoint.failures)
        if self._endpoints[self._first] is endpoint:
            self._first = (self._first + 1) % len(self._endpoints)

    def _ended(self, endpoint: _Endpoint, lane: Lane, ended: Exception | None) -> None:
        if endpoint.lane is lane:
            endpoint.lane = None
        unanswered = [pending for pending in lane.unanswered.values() if not pending.answer.done()]
        error = _end_error(ended, endpoint.name)
        if not isinstance(error, errors.Unavailable):
            for pending in unanswered:
                self._fail(pending, error)
            return
        if ended is not None or unanswered:
            self._avoid(endpoint)
        for pending in unanswered:
            self._fail(pending, error) if self._closed else self._try_again(pending, error)


def _end_error(ended: Exception | None, endpoint: str) -> errors.WatchwordError:
    """What those are told who had no answer when the stream ended: Unavailable where another node may be asked."""
    if ended is None:
        return errors.Unavailable(f"{endpoint} ended the stream without an answer")
    if isinstance(ended, errors.WatchwordError):
        return ended
    assert isinstance(ended, grpc.aio.AioRpcError), "a stream ends with nothing else"
    error = error_of(ended, endpoint)
    if isinstance(error, errors.Unavailable | errors.NotAllowed | errors.InvalidArgument):
        return error
    if details_of(ended).reason:
        return error
    # The transport's own word: gRPC says INTERNAL of a stream that breaks within a write, and UNIMPLEMENTED is a node
    # of an earlier version, beside which there are others while a cluster is upgraded.
    return errors.Unavailable(f"{endpoint} does not answer: {error.message}", advice=error.advice)


def _closed() -> errors.Unavailable:
    return errors.Unavailable("the client is closed", reason="CLOSED")
