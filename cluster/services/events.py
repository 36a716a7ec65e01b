"""The Events service: a node's audit trail, for operators and auditors, with the names of who is concerned."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any, Final, TypeAlias

from grpc import aio

from cluster.services import fields, limits
from cluster.services.event_source import EventBatch, EventRecord, EventSource, SourceClosed, Wanted
from cluster.services.gate import current_caller
from cluster.services.status import Reason, exhausted, invalid, unavailable
from watchword.v1 import authentication_pb2, events_pb2, events_pb2_grpc

Context: TypeAlias = aio.ServicerContext[Any, Any]

DECISION_PREFIX: Final = "DECISION_"
REASON_PREFIX: Final = "REASON_"


class EventsService(events_pb2_grpc.EventsServicer):
    """`pseudonym` is the state's: by it, who is searched for is found without a list of names."""

    def __init__(
        self,
        source: EventSource,
        pseudonym: Callable[[str], str],
        *,
        write_s: float = limits.STREAM_WRITE_S_MAX,
    ) -> None:
        self._source = source
        self._pseudonym = pseudonym
        self._write_s = write_s

    async def Read(  # type: ignore[override]  # noqa: N802 - named as in the contract; it writes by itself
        self, request: events_pb2.ReadEventsRequest, context: Context
    ) -> None:
        wanted = wanted_events(request, self._pseudonym)
        limit = fields.within("limit", request.limit or limits.EVENTS_DEFAULT, 1, limits.EVENTS_MAX)
        caller = current_caller()
        await context.send_initial_metadata(())
        batches = self._source.read(wanted, limit=0 if request.only_new else limit, follow=request.follow)
        try:
            async with aclosing(batches):
                async for batch in batches:
                    # A role that is taken away ends the stream, also one on which nothing happens.
                    caller.authorise()
                    await self._tell(batch, context)
        except SourceClosed:
            to_do = "go on at another node, with the last index as after_index"
            raise unavailable(Reason.STOPPING, "this node is stopping", to_do) from None

    async def _tell(self, batch: EventBatch, context: Context) -> None:
        gaps = [events_pb2.EventGap(from_index=gap.from_index, to_index=gap.to_index) for gap in batch.gaps]
        if gaps:
            await self._write(context, events_pb2.ReadEventsResponse(gaps=gaps))
        for start in range(0, len(batch.events), limits.EVENTS_PER_MESSAGE_MAX):
            part = batch.events[start : start + limits.EVENTS_PER_MESSAGE_MAX]
            names = await self._source.names(frozenset(event.pseudonym for event in part if event.pseudonym))
            messages = [event_message(event, names) for event in part]
            await self._write(context, events_pb2.ReadEventsResponse(events=messages))

    async def _write(self, context: Context, response: events_pb2.ReadEventsResponse) -> None:
        try:
            async with asyncio.timeout(self._write_s):
                await context.write(response)
        except TimeoutError:
            to_do = "read the answers as they come, or ask for less"
            raise exhausted(Reason.ANSWERS_NOT_READ, "the answers were not read in time", to_do) from None


def wanted_events(request: events_pb2.ReadEventsRequest, pseudonym: Callable[[str], str]) -> Wanted:
    """The filter of a request. Raises CallError (INVALID_ARGUMENT)."""
    own = request.pseudonym
    if request.user_id:
        own = pseudonym(fields.user_id(request.user_id))
        if request.pseudonym and request.pseudonym != own:
            raise invalid("pseudonym", "must not be given beside the user_id of another")
    if len(request.kinds) > limits.EVENT_KINDS_MAX:
        raise invalid("kinds", f"must be at most {limits.EVENT_KINDS_MAX}")
    client = _text(request, "client")
    if request.since_ms < 0 or request.until_ms < 0:
        raise invalid("since_ms" if request.since_ms < 0 else "until_ms", "must not be negative")
    return Wanted(
        pseudonym=fields.bounded("pseudonym", own, limits.EVENT_TEXT_BYTES_MAX),
        kinds=frozenset(fields.bounded("kinds", kind, limits.EVENT_TEXT_BYTES_MAX) for kind in request.kinds),
        decision=_choice("decision", authentication_pb2.Decision, request.decision, DECISION_PREFIX),
        reason=_choice("reason", authentication_pb2.Reason, request.reason, REASON_PREFIX),
        token_id=_text(request, "token_id"),
        client=client if not client or "/" in client else f"client/{client}",
        application=_text(request, "application"),
        request_id=_text(request, "by_request_id"),
        subject=_text(request, "subject"),
        since_ms=request.since_ms,
        until_ms=request.until_ms,
        after_index=request.after_index,
    )


def _text(request: events_pb2.ReadEventsRequest, field: str) -> str:
    return fields.bounded(field, getattr(request, field), limits.EVENT_TEXT_BYTES_MAX)


def _choice(field: str, choices: Any, value: int, prefix: str) -> str:
    """An enumeration's value as the trail spells it; empty where it is unspecified."""
    if value not in choices.values():
        raise invalid(field, "must be one of those of the contract")
    return "" if value == 0 else str(choices.Name(value)).removeprefix(prefix)


def event_message(event: EventRecord, names: dict[str, str]) -> events_pb2.AuditEvent:
    decisions, reasons = authentication_pb2.Decision, authentication_pb2.Reason
    return events_pb2.AuditEvent(
        index=event.index,
        at_ms=event.at_ms,
        kind=event.kind,
        decision=_number(decisions, DECISION_PREFIX, event.decision),
        reason=_number(reasons, REASON_PREFIX, event.reason),
        user_id=names.get(event.pseudonym, ""),
        pseudonym=event.pseudonym,
        subject=event.subject,
        token_id=event.token_id,
        client=event.client,
        application=event.application,
        request_id=event.request_id,
        number=event.number,
        of=event.of,
    )


def _number(choices: Any, prefix: str, name: str) -> Any:
    """0 for none, and for one that a newer node wrote."""
    return choices.Value(prefix + name) if name and prefix + name in choices.keys() else 0  # noqa: SIM118 - no mapping
