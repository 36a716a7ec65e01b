"""What the parts of `watchword.client.Client` share: the way to make a call."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.message import Message

from watchword.failover import FailoverPolicy

if TYPE_CHECKING:
    import grpc.aio

    from watchword.client import Stubs

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


class Calls:
    """The base of a part; the client itself makes the calls."""

    _timeout_s: float
    _policy: FailoverPolicy

    async def _call(
        self,
        method: "Callable[[Stubs], grpc.aio.UnaryUnaryMultiCallable[Request, Response]]",
        request: Request,
    ) -> Response:
        raise NotImplementedError

    def _in_turn(self) -> "list[tuple[str, Stubs]]":
        """Every endpoint with its stubs, beginning where the next call would."""
        raise NotImplementedError

    def _request_id(self, given: str | None) -> str:
        raise NotImplementedError
