"""Asks a Watchword cluster, from asyncio.

A call goes to one endpoint after another until a node answers or its time is over, always with the same request id:
that makes trying again safe, because the cluster remembers what it answered (for 60 s).  A decision that this client
does not know is a rejection.

    async with Client(load_profile(path)) as client:
        verification = await client.verify("alice", passcode)
        if verification.accepted: ...
"""

import asyncio
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from watchword import errors
from watchword.client_calls import ClientCalls
from watchword.coalesce import IN_FLIGHT_MAX, CoalescingVerifier
from watchword.codes import CodeCalls
from watchword.credentials import Credentials, load_credentials
from watchword.event_calls import EventCalls
from watchword.failover import Failover, FailoverPolicy
from watchword.lease_calls import LeaseCalls
from watchword.member_calls import MemberCalls
from watchword.profile import Profile
from watchword.status import RETRIED, details_of, error_of, preferred
from watchword.v1 import administration_pb2 as administration
from watchword.v1 import cluster_pb2 as cluster
from watchword.v1.administration_pb2_grpc import AdministrationStub
from watchword.v1.authentication_pb2_grpc import AuthenticationStub
from watchword.v1.cluster_pb2_grpc import ClusterStub
from watchword.v1.events_pb2_grpc import EventsStub
from watchword.verification import Verification, name_of, text, verification_of, verify_request

__all__ = ["Client", "Verification", "name_of", "text", "verification_of"]

TIMEOUT_S = 10.0
TIMEOUT_S_MAX = 30.0  # request ids are remembered for 60 s, so that a retry within this is safe
REQUEST_BYTES_MAX = 64 * 1024

CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # This client's own failover is the one place that tries again and waits.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # What proves who signs in does not go through whatever proxy a shell happens to name.
    ("grpc.enable_http_proxy", 0),
)

_RANDOM = secrets.SystemRandom()

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Stubs:
    """One endpoint: a channel, connected when it is first used, and the services on it."""

    def __init__(self, endpoint: str, credentials: grpc.ChannelCredentials) -> None:
        self.channel = grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)
        self.authentication = AuthenticationStub(self.channel)
        self.administration = AdministrationStub(self.channel)
        self.cluster = ClusterStub(self.channel)
        self.events = EventsStub(self.channel)


class Client(ClientCalls, CodeCalls, LeaseCalls, MemberCalls, EventCalls):
    """A client of one cluster, for one event loop; close it, or use it as a context manager.

    `timeout_s` is the whole time of a call, over all attempts: at most 30 s, within which a request id is safe to
    repeat.  Every method raises the errors of `watchword.errors`.  What changes something takes a `request_id` (drawn
    where it is not given): whoever repeats a call after `Unavailable` gives the same one again.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        timeout_s: float = TIMEOUT_S,
        credentials: Credentials | None = None,
        policy: FailoverPolicy | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _RANDOM.random,
        new_request_id: Callable[[], str] = lambda: secrets.token_hex(16),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not 0 < timeout_s <= TIMEOUT_S_MAX:
            raise errors.InvalidArgument("the time of a call is more than 0 and at most 30 seconds", field="timeout")
        self._endpoints = profile.endpoints
        credentials = credentials or load_credentials(profile, datetime.now(UTC))
        self._credentials = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.certificate)
        self._timeout_s = timeout_s
        self._policy = policy or FailoverPolicy()
        self._monotonic = monotonic
        self._random = random
        self._new_request_id = new_request_id
        self._sleep = sleep
        self._stubs: dict[str, Stubs] = {}
        self._verifiers: weakref.WeakSet[CoalescingVerifier] = weakref.WeakSet()
        # Where the next call begins: clients spread over the nodes, and one keeps to a node that answers.
        self._first = min(int(random() * len(self._endpoints)), len(self._endpoints) - 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        for verifier in self._verifiers:
            verifier.abandon()
        stubs, self._stubs = self._stubs, {}
        await asyncio.gather(*(each.channel.close() for each in stubs.values()))

    # Signing in

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
        """One authentication.  Only `accepted` lets somebody in."""
        request = verify_request(
            self._request_id(request_id), user_id, passcode, token_id=token_id, application=application, address=address
        )
        response = await self._call(lambda stubs: stubs.authentication.Verify, request)
        return verification_of(response)

    def stream(self, *, in_flight_max: int = IN_FLIGHT_MAX) -> CoalescingVerifier:
        """For many sign-ins at a time: they share a stream, and what is asked at once goes out in one message.

        Close it before the client, or use it as a context manager: then what is under way is answered.
        """
        verifier = CoalescingVerifier(
            lambda endpoint: self._stubs_of(endpoint).authentication.VerifyStream(),
            self._endpoints,
            first=self._first,
            timeout_s=self._timeout_s,
            policy=self._policy,
            in_flight_max=in_flight_max,
            random=self._random,
            new_request_id=self._new_request_id,
        )
        self._verifiers.add(verifier)
        return verifier

    # Users

    async def add_user(self, user_id: str, *, request_id: str | None = None) -> administration.User:
        request = administration.AddUserRequest(
            request_id=self._request_id(request_id), user_id=text("user_id", user_id)
        )
        response = await self._call(lambda stubs: stubs.administration.AddUser, request)
        return response.user

    async def get_user(self, user_id: str) -> administration.GetUserResponse:
        """The user, the user's tokens, and the last attempts, newest first."""
        request = administration.GetUserRequest(user_id=text("user_id", user_id))
        return await self._call(lambda stubs: stubs.administration.GetUser, request)

    async def list_users(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        prefix: str = "",
        state: administration.UserState.ValueType = administration.USER_STATE_UNSPECIFIED,
        locked: bool | None = None,
    ) -> administration.ListUsersResponse:
        """One page; `next_page_token` of the answer asks for the next, with the same filters."""
        request = administration.ListUsersRequest(
            page_size=page_size, page_token=page_token, prefix=text("prefix", prefix), state=state, locked=locked
        )
        return await self._call(lambda stubs: stubs.administration.ListUsers, request)

    async def enable_user(self, user_id: str, *, request_id: str | None = None) -> None:
        request = administration.EnableUserRequest(
            request_id=self._request_id(request_id), user_id=text("user_id", user_id)
        )
        await self._call(lambda stubs: stubs.administration.EnableUser, request)

    async def disable_user(self, user_id: str, *, request_id: str | None = None) -> None:
        request = administration.DisableUserRequest(
            request_id=self._request_id(request_id), user_id=text("user_id", user_id)
        )
        await self._call(lambda stubs: stubs.administration.DisableUser, request)

    async def delete_user(self, user_id: str, *, request_id: str | None = None) -> None:
        """Deletes the user with all tokens."""
        request = administration.DeleteUserRequest(
            request_id=self._request_id(request_id), user_id=text("user_id", user_id)
        )
        await self._call(lambda stubs: stubs.administration.DeleteUser, request)

    async def unlock_user(self, user_id: str, *, request_id: str | None = None) -> None:
        """Clears a lockout and the failures counted so far, also where there are none."""
        request = administration.UnlockUserRequest(
            request_id=self._request_id(request_id), user_id=text("user_id", user_id)
        )
        await self._call(lambda stubs: stubs.administration.UnlockUser, request)

    # Tokens

    async def add_token(
        self,
        user_id: str,
        type: administration.TokenType.ValueType,  # noqa: A002  # the contract's word
        *,
        secret: bytes | None = None,
        algorithm: administration.Algorithm.ValueType = administration.ALGORITHM_UNSPECIFIED,
        digits: int = 0,
        period: int = 0,
        counter: int | None = None,
        pending: bool = False,
        request_id: str | None = None,
    ) -> administration.AddTokenResponse:
        """Enrols an authenticator.  The answer is the only one that shows the secret, in its `uri`."""
        request = administration.AddTokenRequest(
            request_id=self._request_id(request_id),
            user_id=text("user_id", user_id),
            type=type,
            secret=secret,
            algorithm=algorithm,
            digits=digits,
            period=period,
            counter=counter,
            pending=pending,
        )
        return await self._call(lambda stubs: stubs.administration.AddToken, request)

    async def list_tokens(self, user_id: str) -> Sequence[administration.Token]:
        request = administration.ListTokensRequest(user_id=text("user_id", user_id))
        response = await self._call(lambda stubs: stubs.administration.ListTokens, request)
        return response.tokens

    async def confirm_token(self, token_id: str, code: str, *, request_id: str | None = None) -> None:
        """Makes a pending token active; `FailedPrecondition` where the code is not right."""
        request = administration.ConfirmTokenRequest(
            request_id=self._request_id(request_id), token_id=text("token_id", token_id), code=text("code", code)
        )
        await self._call(lambda stubs: stubs.administration.ConfirmToken, request)

    async def resync_token(
        self, token_id: str, first_code: str, second_code: str, *, request_id: str | None = None
    ) -> None:
        """Finds the token's place by two consecutive codes; `FailedPrecondition` where they are not found."""
        request = administration.ResyncTokenRequest(
            request_id=self._request_id(request_id),
            token_id=text("token_id", token_id),
            first_code=text("first_code", first_code),
            second_code=text("second_code", second_code),
        )
        await self._call(lambda stubs: stubs.administration.ResyncToken, request)

    async def enable_token(self, token_id: str, *, request_id: str | None = None) -> None:
        request = administration.EnableTokenRequest(
            request_id=self._request_id(request_id), token_id=text("token_id", token_id)
        )
        await self._call(lambda stubs: stubs.administration.EnableToken, request)

    async def disable_token(self, token_id: str, *, request_id: str | None = None) -> None:
        request = administration.DisableTokenRequest(
            request_id=self._request_id(request_id), token_id=text("token_id", token_id)
        )
        await self._call(lambda stubs: stubs.administration.DisableToken, request)

    async def delete_token(self, token_id: str, *, request_id: str | None = None) -> None:
        request = administration.DeleteTokenRequest(
            request_id=self._request_id(request_id), token_id=text("token_id", token_id)
        )
        await self._call(lambda stubs: stubs.administration.DeleteToken, request)

    # The cluster

    async def get_statuses(self) -> dict[str, cluster.GetStatusResponse | errors.WatchwordError]:
        """What every endpoint says of itself and the others, asked all at once and each once: by endpoint."""
        request = cluster.GetStatusRequest()
        timeout_s = min(self._timeout_s, self._policy.attempt_s_max)

        async def ask(endpoint: str) -> cluster.GetStatusResponse | errors.WatchwordError:
            try:
                return await self._stubs_of(endpoint).cluster.GetStatus(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                return error_of(error, endpoint)

        answers = await asyncio.gather(*(ask(endpoint) for endpoint in self._endpoints))
        return dict(zip(self._endpoints, answers, strict=True))

    # One call

    async def _call(
        self, method: Callable[["Stubs"], grpc.aio.UnaryUnaryMultiCallable[Request, Response]], request: Request
    ) -> Response:
        """The answer of the first node that decides; the error of one, or `Unavailable` when the time is over."""
        if request.ByteSize() > REQUEST_BYTES_MAX:
            raise errors.InvalidArgument(f"the request is larger than {REQUEST_BYTES_MAX} bytes", advice="shorten it")
        deadline = self._monotonic() + self._timeout_s
        failover = Failover(self._policy, len(self._endpoints), self._first, deadline, self._random)
        failed: list[errors.Unavailable] = []
        while (attempt := failover.next(self._monotonic())) is not None:
            if attempt.delay_s > 0:
                await self._sleep(attempt.delay_s)
            endpoint = self._endpoints[attempt.endpoint]
            try:
                response = await method(self._stubs_of(endpoint))(request, timeout=attempt.timeout_s)
            except grpc.aio.AioRpcError as rpc_error:
                error = error_of(rpc_error, endpoint)
                if rpc_error.code() not in RETRIED or not isinstance(error, errors.Unavailable):
                    raise error from rpc_error
                failed.append(error)
                failover.failed(
                    overloaded=isinstance(error, errors.Overloaded), retry_after_s=details_of(rpc_error).retry_after_s
                )
            else:
                self._first = attempt.endpoint
                return response
        raise preferred(failed) if failed else errors.NoAnswerInTime("there was no time left to ask")

    def _in_turn(self) -> list[tuple[str, Stubs]]:
        endpoints = self._endpoints[self._first :] + self._endpoints[: self._first]
        return [(endpoint, self._stubs_of(endpoint)) for endpoint in endpoints]

    def _stubs_of(self, endpoint: str) -> Stubs:
        stubs = self._stubs.get(endpoint)
        if stubs is None:
            stubs = self._stubs[endpoint] = Stubs(endpoint, self._credentials)
        return stubs

    def _request_id(self, given: str | None) -> str:
        return self._new_request_id() if given is None else text("request_id", given)
