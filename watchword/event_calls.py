"""The client's calls about events: a node's audit trail, as far as it goes and as it grows."""

import asyncio
from collections.abc import AsyncGenerator

import grpc
import grpc.aio

from watchword import errors
from watchword.calls import Calls
from watchword.status import RETRIED, error_of, preferred
from watchword.v1 import events_pb2 as events


class EventCalls(Calls):
    """A part of `watchword.client.Client`."""

    async def read_events(self, request: events.ReadEventsRequest) -> AsyncGenerator[events.ReadEventsResponse, None]:
        """What the first node that answers has in its trail; see the contract.

        It ends with an error where that node does: `request.after_index` goes on at another. Without `follow` the
        client's time is that of the whole call.
        """
        failed: list[errors.Unavailable] = []
        for endpoint, stubs in self._in_turn():
            call = stubs.events.Read(request, timeout=None if request.follow else self._timeout_s)
            began = False
            try:
                # A node that takes the call says so at once, so that one that hangs costs a part of the time.
                async with asyncio.timeout(self._policy.attempt_s_max):
                    await call.initial_metadata()
                async for response in call:
                    began = True
                    yield response
            except TimeoutError:
                failed.append(errors.NoAnswerInTime(f"{endpoint} did not answer in time"))
            except grpc.aio.AioRpcError as rpc_error:
                error = error_of(rpc_error, endpoint)
                if began or rpc_error.code() not in RETRIED or not isinstance(error, errors.Unavailable):
                    raise error from rpc_error
                failed.append(error)
            else:
                return
            finally:
                call.cancel()
        raise preferred(failed)
