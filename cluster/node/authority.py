"""Signs with the issuing key of the replicated state: certificates for clients, and this node's own anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from cluster.node.certificates import Credential, issue_joiner, sign_client, sign_node, valid_until_ms
from cluster.services.authority import Terms, UnusableRequest
from cluster.state.records import IssuingKey

T = TypeVar("T")

RSA_BITS_MIN: Final = 2048
RSA_BITS_MAX: Final = 4096  # beyond, a signature that is to be checked costs too much
RSA_EXPONENT: Final = 65_537
KEYS: Final = "must have a key of ECDSA P-256 or P-384, or of RSA with 2048 to 4096 bits"


class IssuingAuthority:
    """Implements `cluster.services.authority.Authority`."""

    def requested_key(self, csr: bytes) -> bytes:
        request = _parsed(
            lambda: x509.load_pem_x509_csr(csr), "must be a certificate signing request (PKCS #10) in PEM"
        )
        key = _parsed(request.public_key, KEYS)
        # The kind of key first: what is not signed is not worth the check of a signature either.
        if not _is_signed(key):
            raise UnusableRequest(KEYS)
        if not _parsed(lambda: request.is_signature_valid, "must be signed in a way that can be checked"):
            raise UnusableRequest("must be signed by its own key")
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    def valid_until_ms(self, issuing: IssuingKey) -> int:
        return valid_until_ms(issuing.certificate)

    def sign_node(
        self, issuing: IssuingKey, public_key: bytes, identity: str, hosts: Sequence[str], now_ms: int
    ) -> bytes:
        key = serialization.load_der_public_key(public_key)
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "what `requested_key` gave"
        return sign_node(Credential(issuing.certificate, issuing.private_key), key, identity, hosts, now_ms)

    def issue_joiner(self, issuing: IssuingKey, identity: str, until_ms: int, now_ms: int) -> tuple[bytes, bytes]:
        credential = issue_joiner(Credential(issuing.certificate, issuing.private_key), identity, until_ms, now_ms)
        return credential.chain_pem, credential.key_pem

    def sign_client(self, issuing: IssuingKey, public_key: bytes, terms: Terms) -> bytes:
        key = serialization.load_der_public_key(public_key)
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "what `requested_key` gave"
        return sign_client(
            Credential(issuing.certificate, issuing.private_key),
            key,
            identity=terms.identity,
            serial=int.from_bytes(terms.serial, "big"),
            issued_ms=terms.issued_ms,
            until_ms=terms.valid_until_ms,
        )


def _is_signed(key: CertificatePublicKeyTypes) -> bool:
    match key:
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
        case rsa.RSAPublicKey():
            return RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX and key.public_numbers().e == RSA_EXPONENT
        case _:
            return False


def _parsed(parse: Callable[[], T], otherwise: str) -> T:
    """What `parse` gives of bytes that come from outside. Raises UnusableRequest where it gives nothing."""
    try:
        return parse()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UnusableRequest(otherwise) from None
