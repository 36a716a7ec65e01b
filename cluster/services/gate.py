"""The door that every call comes through: who calls, whether it may, whether there is room, and how it ends.

An interceptor, so that no servicer can forget it: a method that isn't in the table of roles is refused.
"""

from __future__ import annotations  # gRPC's types are generic in their stubs only

import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc import aio
from structlog.typing import FilteringBoundLogger

from cluster.services import fields, limits
from cluster.services.identity import Identity, Kind, certificate_identity
from cluster.services.roles import FOR_INVITED, is_allowed
from cluster.services.status import (
    CallError,
    Reason,
    abort,
    exhausted,
    internal,
    malformed,
    not_allowed,
    not_filled,
    revoked,
)
from cluster.state.records import Role

# gRPC's handlers are of any request and response; their types are checked where they are made.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = aio.ServicerContext[Any, Any]

FRAMES_LOGGED_MAX: Final = 12
# What an operator wants to see in the log; the caller's other mistakes are the caller's to see.
_LOGGED: Final = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes the call that is being answered, and which; `identity` is the URI in its certificate.

    `authorise` looks again at whether it may, for calls that stay: it raises CallError where it may not any more.
    """

    identity: str
    method: str
    authorise: Callable[[], None]


_caller: ContextVar[Caller] = ContextVar("caller")


def current_caller() -> Caller:
    """The caller of the call that this task answers."""
    return _caller.get()


class _Malformed:
    """Stands for a request that could not be decoded, until a handler can refuse it."""


MALFORMED: Final = _Malformed()


class Gate(aio.ServerInterceptor):
    """See the module. `roles_of` and `is_revoked` read the local state; who is revoked has no role. Before `is_filled`,
    a node that joins knows of nobody.

    `on_call(method, status, seconds)` is told how each call ended; no seconds of a stream, which lasts as it is used.
    """

    def __init__(
        self,
        *,
        cluster_id: str,
        roles_of: Callable[[str], frozenset[Role]],
        is_revoked: Callable[[str], bool],
        log: FilteringBoundLogger,
        is_filled: Callable[[], bool] = lambda: True,
        on_call: Callable[[str, str, float | None], None] = lambda _method, _status, _seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster_id = cluster_id
        self._roles_of = roles_of
        self._is_revoked = is_revoked
        self._log = log
        self._is_filled = is_filled
        self._on_call = on_call
        self._monotonic = monotonic
        self._in_flight: Counter[str] = Counter()
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method = handler_call_details.method
        guarded = self._guarded.get(method)
        if guarded is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None  # gRPC answers UNIMPLEMENTED
            # Only methods that exist get here, so callers can't make this grow.
            guarded = self._guarded[method] = self._guard(method, handler)
        return guarded

    def in_flight(self, service: str) -> int:
        """Calls of a service ("package.Service") that are not answered yet."""
        return self._in_flight[service]

    def _guard(self, method: str, handler: Handler) -> Handler:
        deserializer = _total(handler.request_deserializer)
        if handler.response_streaming:
            stream = handler.stream_stream or handler.unary_stream
            assert stream is not None, "a streaming handler has a streaming behaviour"
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            guarded = self._guard_stream(method, stream, requests_stream=handler.request_streaming)
            return make(guarded, deserializer, handler.response_serializer)
        assert handler.unary_unary is not None, "no method of ours streams requests only"
        return grpc.unary_unary_rpc_method_handler(
            self._guard_unary(method, handler.unary_unary), deserializer, handler.response_serializer
        )

    def _guard_unary(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: object, context: Context) -> object:
            started, status = self._monotonic(), grpc.StatusCode.CANCELLED
            try:
                with self._admitted(method, request, context):
                    answer = await behaviour(request, context)
                    status = grpc.StatusCode.OK
                    return answer
            except aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001
                # Whatever a servicer raises ends as a status of ours, never as its text on the wire.
                status = _status_of(error)
                await self._end(method, request, context, error)
            finally:
                self._on_call(method, status.name, self._monotonic() - started)

        return call

    def _guard_stream(self, method: str, behaviour: Callable[..., Any], *, requests_stream: bool) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> None:
            status = grpc.StatusCode.CANCELLED
            try:
                with self._admitted(method, request, context):
                    answers = behaviour(_refusing(request) if requests_stream else request, context)
                    if isinstance(answers, AsyncIterator):
                        async for answer in answers:
                            await context.write(answer)
                    else:
                        await answers  # one that writes by itself
                status = grpc.StatusCode.OK
            except aio.AbortError:
                raise
            except Exception as error:  # noqa: BLE001
                # As for one answer.
                status = _status_of(error)
                await self._end(method, request, context, error)
            finally:
                self._on_call(method, status.name, None)

        return call

    @contextmanager
    def _admitted(self, method: str, request: object, context: Context) -> Iterator[None]:
        """Authenticate, authorise and count one call.

        Raises:
            CallError: UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT or RESOURCE_EXHAUSTED.
        """
        identity = certificate_identity(context.auth_context(), self._cluster_id)
        authorise = partial(self._authorise, method, identity)
        authorise()
        if request is MALFORMED:
            raise malformed()
        service = method[1:].partition("/")[0]
        if self._in_flight[service] >= limits.CALLS_IN_FLIGHT_MAX[service]:
            raise exhausted(Reason.TOO_MANY_CALLS, "the node answers as many calls of this service as it may")
        self._in_flight[service] += 1
        # gRPC answers each call in a task of its own, and with it goes this.
        _caller.set(Caller(identity.uri, method, authorise))
        try:
            yield
        finally:
            self._in_flight[service] -= 1

    def _authorise(self, method: str, identity: Identity) -> None:
        if identity.kind is Kind.JOIN:
            if method not in FOR_INVITED:
                raise not_allowed()
            return
        roles = self._roles_of(identity.uri)
        if not roles and self._is_revoked(identity.uri):
            raise revoked()
        if not is_allowed(method, roles):
            raise not_allowed() if self._is_filled() else not_filled()

    async def _end(self, method: str, request: object, context: Context, error: Exception) -> NoReturn:
        request_id = _request_id(request)
        if isinstance(error, CallError):
            if error.code in _LOGGED:
                self._log.info("call_refused", method=method, reason=error.reason, request_id=request_id)
            await abort(context, error)
        # Type and place only: the text may hold what a person typed.
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_LOGGED_MAX:]
        where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
        error_type = type(error).__qualname__
        self._log.error("call_failed", method=method, error=error_type, where=where, request_id=request_id)
        await abort(context, internal())


def _status_of(error: Exception) -> grpc.StatusCode:
    return error.code if isinstance(error, CallError) else grpc.StatusCode.INTERNAL


def _request_id(request: object) -> str:
    """The request's id for the log; empty where there is none that may stand in a line."""
    try:
        return fields.request_id(getattr(request, "request_id", ""))
    except CallError:
        return ""


def _total(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """A deserializer that does not raise: gRPC would answer UNKNOWN with the exception's text."""
    assert deserializer is not None, "every method of ours takes a message"

    def deserialize(data: bytes) -> Any:
        try:
            return deserializer(data)
        except (DecodeError, ValueError):
            return MALFORMED

    return deserialize


async def _refusing(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests of a stream, up to the first that could not be decoded."""
    async for request in requests:
        if request is MALFORMED:
            raise malformed()
        yield request
