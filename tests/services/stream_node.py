"""A node that applies at once, whose streams have bounds that a test can reach."""

import asyncio
from collections.abc import Callable
from typing import Any

from cluster.services.authentication import AuthenticationService
from cluster.services.streams import StreamLimits
from tests.services.direct_node import DirectNode
from tests.services.door import Services

IN_FLIGHT = 64
STREAM_LIMITS = StreamLimits(
    streams=8, streams_per_identity=4, in_flight=IN_FLIGHT, in_flight_node=100, write_s=2.0, roles_interval_s=0.05
)


class NodeWithStreams(DirectNode):
    """The same, with smaller bounds, and its streams at hand."""

    def __init__(self, stream_limits: StreamLimits = STREAM_LIMITS) -> None:
        super().__init__()
        self.authentication = AuthenticationService(*self.proposals_and_sign_ins(), stream_limits)

    @property
    def streams(self) -> Any:
        return self.authentication.streams

    def services(self, *arguments: Any) -> Services:
        others = super().services(*arguments)
        return Services(self.authentication, others.administration, others.cluster)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of what happens in the server
            await asyncio.sleep(0.005)


async def settled(node: NodeWithStreams) -> int:
    """How many requests the node has under way, once it reads no more."""
    before, same = -1, 0
    async with asyncio.timeout(20):
        while same < 8:
            await asyncio.sleep(0.005)
            same = same + 1 if node.streams.in_flight == before else 0
            before = node.streams.in_flight
    return before
