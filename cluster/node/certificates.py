"""X.509 for a cluster: a root, an issuing authority below it, nodes and clients below that (ECDSA P-256, RFC 5280).

A certificate's identity is one URI in its subject alternative names, `watchword://<cluster>/node/<member id>` or
`watchword://<cluster>/client/<name>`. Who may do what is never in a certificate: roles belong to the replicated state.
Pure functions; the time is passed in as integer milliseconds UTC. Only keys and serial numbers come from the operating
system.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.node.errors import CertificateError

ROOT_DAYS = 7300
ISSUING_DAYS = 3650
NODE_DAYS = 397
CLIENT_DAYS = 730
# A certificate made now must hold on a peer whose clock is a little behind.
BACKDATED = timedelta(minutes=5)

_IDENTITY = re.compile(r"watchword://(?P<cluster>[0-9a-f]{32})/(?P<kind>node|client)/(?P<name>[A-Za-z0-9._@-]{1,64})")


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Whom a certificate stands for: a node by its member id, a client by its name."""

    cluster_id: str
    kind: Literal["node", "client"]
    name: str

    @property
    def uri(self) -> str:
        return f"watchword://{self.cluster_id}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key (PKCS#8 PEM) and its certificate followed by those above it, without the root (PEM)."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)


def node_identity(cluster_id: str, member_id: str) -> CertificateIdentity:
    return CertificateIdentity(cluster_id, "node", member_id)


def client_identity(cluster_id: str, name: str) -> CertificateIdentity:
    """`name` is 1 to 64 of letters, digits and `._@-`.

    Raises:
        CertificateError: another name.
    """
    identity = CertificateIdentity(cluster_id, "client", name)
    if _IDENTITY.fullmatch(identity.uri) is None:
        raise CertificateError("a client's name is 1 to 64 letters, digits or any of . _ @ -; choose such a name")
    return identity


def parse_identity(uri: str) -> CertificateIdentity | None:
    match = _IDENTITY.fullmatch(uri)
    if match is None:
        return None
    kind: Literal["node", "client"] = "node" if match["kind"] == "node" else "client"
    return CertificateIdentity(match["cluster"], kind, match["name"])


def make_root(cluster_id: str, now_ms: int) -> Credential:
    """The cluster's root; its key is to be taken away from the machine once the issuing authority is signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Watchword root {cluster_id[:8]}")
    certificate = _authority(name, key, above=None, signing_key=key, path_length=1, days=ROOT_DAYS, now_ms=now_ms)
    return Credential(_pem(certificate), _key_pem(key))


def make_issuing(root: Credential, cluster_id: str, now_ms: int) -> Credential:
    """The authority that every node signs with; it belongs into the sealed state."""
    above, above_key = _certificate(root.chain_pem), _private_key(root.key_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Watchword issuing {cluster_id[:8]}")
    certificate = _authority(
        name, key, above=above, signing_key=above_key, path_length=0, days=ISSUING_DAYS, now_ms=now_ms
    )
    return Credential(_pem(certificate), _key_pem(key))


def issue_node(issuing: Credential, identity: CertificateIdentity, hosts: Sequence[str], now_ms: int) -> Credential:
    """For a node: server and client at once. `hosts` are the host names and IP addresses it is reached by."""
    alternatives = [x509.UniformResourceIdentifier(identity.uri), *(_host(host) for host in dict.fromkeys(hosts))]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issue(
        issuing,
        common_name=f"node {identity.name}",
        alternatives=alternatives,
        usages=usages,
        days=NODE_DAYS,
        now_ms=now_ms,
    )


def issue_client(issuing: Credential, identity: CertificateIdentity, now_ms: int) -> Credential:
    alternatives = [x509.UniformResourceIdentifier(identity.uri)]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    return _issue(
        issuing,
        common_name=f"client {identity.name}",
        alternatives=alternatives,
        usages=usages,
        days=CLIENT_DAYS,
        now_ms=now_ms,
    )


def identity_of(certificate: bytes) -> CertificateIdentity | None:
    """The identity in a certificate (DER, or the first one of PEM); None where there isn't exactly one of ours."""
    uris = _parse(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [parse_identity(uri) for uri in uris.get_values_for_type(x509.UniformResourceIdentifier)]
    return found[0] if len(found) == 1 else None


def days_left(certificate: bytes, now_ms: int) -> int:
    """Whole days until the end; negative once it is over."""
    left = _parse(certificate).not_valid_after_utc - _at(now_ms)
    return left // timedelta(days=1)


def check_own(chain_pem: bytes, key_pem: bytes, expected: CertificateIdentity, now_ms: int, path: str) -> None:
    """That this is the certificate of `expected`, that the key belongs to it, and that it is valid now.

    Raises:
        CertificateError: what is wrong with `path`, and what to do.
    """
    try:
        certificate, key = _parse(chain_pem), _private_key(key_pem)
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
    if _at(now_ms) > certificate.not_valid_after_utc:
        raise CertificateError(
            f"{path}: expired {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; put a renewed certificate there"
        )
    if _at(now_ms) < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path}: is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC;"
            " check this machine's clock"
        )


def _issue(
    issuing: Credential,
    *,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    days: int,
    now_ms: int,
) -> Credential:
    above, above_key = _certificate(issuing.chain_pem), _private_key(issuing.key_pem)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(common_name), above.subject, key.public_key(), days, now_ms)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_authority_key_identifier(above), critical=False)
        .sign(above_key, hashes.SHA256())
    )
    return Credential(_pem(certificate) + issuing.chain_pem, _key_pem(key))


def _authority(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    *,
    above: x509.Certificate | None,
    signing_key: ec.EllipticCurvePrivateKey,
    path_length: int,
    days: int,
    now_ms: int,
) -> x509.Certificate:
    issuer = above.subject if above is not None else subject
    builder = (
        _builder(subject, issuer, key.public_key(), days, now_ms)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    if above is not None:
        builder = builder.add_extension(_authority_key_identifier(above), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey, days: int, now_ms: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_at(now_ms) - BACKDATED)
        .not_valid_after(_at(now_ms) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _authority_key_identifier(above: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    identifier = above.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _at(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, tz=UTC)


def _parse(certificate: bytes) -> x509.Certificate:
    return _certificate(certificate) if b"-----BEGIN" in certificate else x509.load_der_x509_certificate(certificate)


def _certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an elliptic curve key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
