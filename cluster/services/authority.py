"""What the services ask of whoever signs certificates. The node passes it in; no X.509 is known here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.state.records import IssuingKey


class UnusableRequest(Exception):
    """A certificate signing request that nobody signs; its text says what is wrong and quotes nothing."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client's certificate says; times in milliseconds UTC."""

    identity: str  # a URI
    serial: bytes  # big-endian, positive
    issued_ms: int
    valid_until_ms: int


class Authority(Protocol):
    """Signs with the issuing key of the replicated state."""

    def requested_key(self, csr: bytes) -> bytes:
        """The public key (SubjectPublicKeyInfo, DER) that a request in PEM proves to have.

        Raises:
            UnusableRequest: it proves nothing, or its key is of a kind that is not signed.
        """
        ...

    def valid_until_ms(self, issuing: IssuingKey) -> int:
        """The end of the authority's own certificate."""
        ...

    def sign_node(
        self, issuing: IssuingKey, public_key: bytes, identity: str, hosts: Sequence[str], now_ms: int
    ) -> bytes:
        """A node's certificate for these host names and addresses, followed by the authority's (PEM)."""
        ...

    def issue_joiner(self, issuing: IssuingKey, identity: str, until_ms: int, now_ms: int) -> tuple[bytes, bytes]:
        """A key of its own for whoever is invited: certificate with the authority's, and private key (PEM)."""
        ...

    def sign_client(self, issuing: IssuingKey, public_key: bytes, terms: Terms) -> bytes:
        """A client's certificate, followed by the authority's (PEM)."""
        ...
