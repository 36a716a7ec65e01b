"""Whether a certificate can be used: this node's own, at its start and whenever its files change."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from cluster.node.certificates import CertificateIdentity, at, identity_of, parsed, private_key
from cluster.node.errors import CertificateError


def check_own(chain_pem: bytes, key_pem: bytes, expected: CertificateIdentity, now_ms: int, path: str) -> None:
    """That this is the certificate of `expected`, that the key belongs to it, and that it is valid now.

    Raises:
        CertificateError: what is wrong with `path`, and what to do.
    """
    try:
        certificate, key = parsed(chain_pem), private_key(key_pem)
        identity = identity_of(chain_pem)
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise CertificateError(
            f"{path}: is not a certificate and key of Watchword; put the node's own there"
        ) from error
    if certificate.public_key() != key.public_key():
        raise CertificateError(f"{path}: does not belong to the private key; put both files of one issue there")
    if identity != expected:
        raise CertificateError(
            f"{path}: stands for {identity.uri if identity else 'nobody of ours'}, this node is {expected.uri};"
            " put the certificate that was issued to this node there"
        )
    if at(now_ms) > certificate.not_valid_after_utc:
        raise CertificateError(
            f"{path}: expired {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; put a renewed certificate there"
        )
    if at(now_ms) < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path}: is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC;"
            " check this machine's clock"
        )


def leads_to(chain_pem: bytes, roots_pem: bytes, now_ms: int) -> bool:
    """Whether a verifier that trusts these roots accepts the chain, as a client's and at that time."""
    try:
        leaf, *between = x509.load_pem_x509_certificates(chain_pem)
        store = Store(x509.load_pem_x509_certificates(roots_pem))
        PolicyBuilder().store(store).time(at(now_ms)).build_client_verifier().verify(leaf, between)
    except (VerificationError, ValueError):
        return False
    return True
