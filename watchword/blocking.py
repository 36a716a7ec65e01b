"""The client for programs without asyncio: the same calls, each of which waits for its answer.

One event loop in one thread serves all callers, from any thread; so a process that forks makes its client afterwards.
"""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from watchword.client import TIMEOUT_S, Client
from watchword.coalesce import IN_FLIGHT_MAX, CoalescingVerifier
from watchword.profile import Profile
from watchword.verification import Verification

P = ParamSpec("P")
R = TypeVar("R")


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["BlockingClient", P], R]:
    @functools.wraps(method)
    def call(self: "BlockingClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.run(method(self.client, *args, **kwargs))

    return call


class BlockingClient:
    """A `Client` whose methods return answers and not awaitables.  Close it, or use it as a context manager."""

    def __init__(self, profile: Profile, *, timeout_s: float = TIMEOUT_S) -> None:
        self.client = Client(profile, timeout_s=timeout_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="watchword-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections; calls that still wait in other threads fail.  May be called twice."""
        if self._loop.is_closed():
            return
        self.run(self.client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Wait for a coroutine that runs in the client's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stream(self, *, in_flight_max: int = IN_FLIGHT_MAX) -> "BlockingVerifier":
        """For many threads that sign people in at a time; see `Client.stream`."""
        return BlockingVerifier(self, self.client.stream(in_flight_max=in_flight_max))

    verify = _blocking(Client.verify)
    add_user = _blocking(Client.add_user)
    get_user = _blocking(Client.get_user)
    list_users = _blocking(Client.list_users)
    enable_user = _blocking(Client.enable_user)
    disable_user = _blocking(Client.disable_user)
    delete_user = _blocking(Client.delete_user)
    unlock_user = _blocking(Client.unlock_user)
    add_token = _blocking(Client.add_token)
    list_tokens = _blocking(Client.list_tokens)
    confirm_token = _blocking(Client.confirm_token)
    resync_token = _blocking(Client.resync_token)
    enable_token = _blocking(Client.enable_token)
    disable_token = _blocking(Client.disable_token)
    delete_token = _blocking(Client.delete_token)
    add_client = _blocking(Client.add_client)
    list_clients = _blocking(Client.list_clients)
    revoke_client = _blocking(Client.revoke_client)
    renew_client = _blocking(Client.renew_client)
    change_pin = _blocking(Client.change_pin)
    set_pin = _blocking(Client.set_pin)
    issue_recovery_codes = _blocking(Client.issue_recovery_codes)
    issue_bypass = _blocking(Client.issue_bypass)
    get_settings = _blocking(Client.get_settings)
    set_settings = _blocking(Client.set_settings)
    acquire_lease = _blocking(Client.acquire_lease)
    renew_lease = _blocking(Client.renew_lease)
    release_lease = _blocking(Client.release_lease)
    list_leases = _blocking(Client.list_leases)
    get_statuses = _blocking(Client.get_statuses)


class BlockingVerifier:
    """A `CoalescingVerifier` whose callers, in any threads, wait for their answers."""

    def __init__(self, client: BlockingClient, verifier: CoalescingVerifier) -> None:
        self._client = client
        self._verifier = verifier

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes nothing more, and waits for what is under way."""
        self._client.run(self._verifier.close())

    def verify(
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
        return self._client.run(
            self._verifier.verify(
                user_id,
                passcode,
                token_id=token_id,
                application=application,
                address=address,
                request_id=request_id,
            )
        )
