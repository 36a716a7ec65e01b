"""What the Events service asks of the node: its audit trail, read as it was written."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EventRecord:
    """One event as the trail has it: by the pseudonym of who is concerned. Empty: does not apply."""

    index: int
    at_ms: int
    kind: str
    decision: str
    reason: str
    pseudonym: str
    subject: str
    token_id: str
    client: str
    application: str
    request_id: str
    number: int
    of: int


@dataclass(frozen=True, slots=True)
class GapRecord:
    """Entries of the log that are not in the trail."""

    from_index: int
    to_index: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events: all that is given must fit; empty or 0 is not given."""

    pseudonym: str = ""
    kinds: frozenset[str] = frozenset()
    decision: str = ""
    reason: str = ""
    token_id: str = ""
    client: str = ""
    application: str = ""
    request_id: str = ""
    subject: str = ""
    since_ms: int = 0
    until_ms: int = 0
    after_index: int = 0

    def fits(self, event: EventRecord) -> bool:
        exact = (
            (self.pseudonym, event.pseudonym),
            (self.decision, event.decision),
            (self.reason, event.reason),
            (self.token_id, event.token_id),
            (self.client, event.client),
            (self.application, event.application),
            (self.request_id, event.request_id),
            (self.subject, event.subject),
        )
        return (
            event.index > self.after_index
            and self.since_ms <= event.at_ms
            and (not self.until_ms or event.at_ms < self.until_ms)
            and (not self.kinds or event.kind in self.kinds)
            and all(not wanted or wanted == found for wanted, found in exact)
        )


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events and gaps in the order of the log."""

    events: Sequence[EventRecord] = ()
    gaps: Sequence[GapRecord] = ()


class SourceClosed(Exception):
    """The node stops; whoever follows goes on at another."""


class EventSource(Protocol):
    def read(self, wanted: Wanted, *, limit: int, follow: bool) -> AsyncGenerator[EventBatch, None]:
        """The last `limit` events that fit, oldest first; with `follow` also those to come.

        Batches may be empty: one comes at least every quarter of a second while nothing happens.

        Raises:
            SourceClosed: the node stops.
        """
        ...

    async def names(self, pseudonyms: frozenset[str]) -> dict[str, str]:
        """The users that there are now, by those of these pseudonyms that are theirs."""
        ...
