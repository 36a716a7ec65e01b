"""X.509 for a cluster: a root, an issuing authority below it, nodes and clients below that (ECDSA P-256, RFC 5280).

A certificate's identity is one URI in its subject alternative names, `watchword://<cluster>/node/<member id>`,
`watchword://<cluster>/client/<name>`, or `watchword://<cluster>/join/<invitation>` for a node that is to be. Who may do
what is never in a certificate: roles belong to the replicated state.
Pure functions; the time is passed in as integer milliseconds UTC. Only keys and serial numbers come from the operating
system.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.node.errors import CertificateError

ROOT_DAYS = 7300
ISSUING_DAYS = 3650
NODE_DAYS = 397
CLIENT_DAYS = 730
DAY_MS = 86_400_000
# A certificate made now must hold on a peer whose clock is a little behind.
BACKDATED = timedelta(minutes=5)

_IDENTITY = re.compile(
    r"watchword://(?P<cluster>[0-9a-f]{32})/"
    r"(?:node/(?P<node>[A-Za-z0-9._@-]{1,64})"
    r"|client/(?P<client>[A-Za-z0-9._@-]{1,64}(?:/(?:[2-9]|[1-9][0-9]{1,3}))?)"
    r"|join/(?P<join>[0-9a-f]{32}))"
)


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Whom a certificate stands for: a node by its member id, a client by its name.

    Behind a name that was revoked and added again stands `/` and the number of its generation, from 2.
    """

    cluster_id: str
    kind: Literal["node", "client", "join"]
    name: str

    @property
    def uri(self) -> str:
        return f"watchword://{self.cluster_id}/{self.kind}/{self.name}"


class Validity(NamedTuple):
    """Milliseconds UTC."""

    from_ms: int
    until_ms: int


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
    if "/" in name or _IDENTITY.fullmatch(identity.uri) is None:
        raise CertificateError("a client's name is 1 to 64 letters, digits or any of . _ @ -; choose such a name")
    return identity


def parse_identity(uri: str) -> CertificateIdentity | None:
    match = _IDENTITY.fullmatch(uri)
    if match is None:
        return None
    if match["node"] is not None:
        return CertificateIdentity(match["cluster"], "node", match["node"])
    if match["join"] is not None:
        return CertificateIdentity(match["cluster"], "join", match["join"])
    return CertificateIdentity(match["cluster"], "client", match["client"])


def make_root(cluster_id: str, now_ms: int) -> Credential:
    """The cluster's root; its key is to be taken away from the machine once the issuing authority is signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"Watchword root {cluster_id[:8]}")
    certificate = _authority(name, key, above=None, signing_key=key, path_length=1, days=ROOT_DAYS, now_ms=now_ms)
    return Credential(_pem(certificate), _key_pem(key))


def make_issuing(root: Credential, cluster_id: str, now_ms: int) -> Credential:
    """The authority that every node signs with; it belongs into the sealed state."""
    above, above_key = _certificate(root.chain_pem), private_key(root.key_pem)
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


def sign_client(
    issuing: Credential,
    public_key: CertificatePublicKeyTypes,
    *,
    identity: str,
    serial: int,
    issued_ms: int,
    until_ms: int,
) -> bytes:
    """A certificate for a key that is the client's own; returns it, followed by the authority's (PEM)."""
    parsed = parse_identity(identity)
    assert parsed is not None, "clients have an identity of ours"
    return _sign(
        issuing,
        public_key,
        common_name=f"client {parsed.name}",
        alternatives=[x509.UniformResourceIdentifier(identity)],
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
        validity=Validity(issued_ms, until_ms),
        serial=serial,
    )


def sign_node(
    issuing: Credential, public_key: CertificatePublicKeyTypes, identity: str, hosts: Sequence[str], now_ms: int
) -> bytes:
    """A node's certificate for a key that is its own; returns it, followed by the authority's (PEM)."""
    return _sign(
        issuing,
        public_key,
        common_name=f"node {identity.rpartition('/')[2]}",
        alternatives=[x509.UniformResourceIdentifier(identity), *(_host(host) for host in dict.fromkeys(hosts))],
        usages=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        validity=Validity(now_ms, min(now_ms + NODE_DAYS * DAY_MS, valid_until_ms(issuing.chain_pem))),
    )


def issue_joiner(issuing: Credential, identity: str, until_ms: int, now_ms: int) -> Credential:
    """For whoever holds a joining token."""
    key = ec.generate_private_key(ec.SECP256R1())
    chain = _sign(
        issuing,
        key.public_key(),
        common_name="joining node",
        alternatives=[x509.UniformResourceIdentifier(identity)],
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
        validity=Validity(now_ms, until_ms),
    )
    return Credential(chain, _key_pem(key))


def renew_node(issuing: Credential, own: Credential, now_ms: int) -> Credential:
    """The node's certificate anew: the same key, identity and addresses, and time from now on.

    The key stays, so that one file changes, in one step.
    """
    certificate, authority = _certificate(own.chain_pem), _certificate(issuing.chain_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identity = identity_of(own.chain_pem)
    assert identity is not None, "a node's own certificate was checked when it was read"
    until_ms = min(now_ms + NODE_DAYS * DAY_MS, _ms(authority.not_valid_after_utc))
    chain = _sign(
        issuing,
        certificate.public_key(),
        common_name=f"node {identity.name}",
        alternatives=list(names),
        usages=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        validity=Validity(now_ms, until_ms),
    )
    return Credential(chain, own.key_pem)


def validity(certificate: bytes) -> Validity:
    """From when to when a certificate (DER, or the first one of PEM) holds."""
    found = parsed(certificate)
    return Validity(_ms(found.not_valid_before_utc), _ms(found.not_valid_after_utc))


def valid_until_ms(certificate: bytes) -> int:
    return validity(certificate).until_ms


def identity_of(certificate: bytes) -> CertificateIdentity | None:
    """The identity in a certificate (DER, or the first one of PEM); None where there isn't exactly one of ours."""
    uris = parsed(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    found = [parse_identity(uri) for uri in uris.get_values_for_type(x509.UniformResourceIdentifier)]
    return found[0] if len(found) == 1 else None


def days_left(certificate: bytes, now_ms: int) -> int:
    """Whole days until the end; negative once it is over."""
    left = parsed(certificate).not_valid_after_utc - at(now_ms)
    return left // timedelta(days=1)


def _issue(
    issuing: Credential,
    *,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    days: int,
    now_ms: int,
) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = _sign(
        issuing,
        key.public_key(),
        common_name=common_name,
        alternatives=alternatives,
        usages=usages,
        validity=Validity(now_ms, now_ms + days * DAY_MS),
    )
    return Credential(chain, _key_pem(key))


def _sign(
    issuing: Credential,
    public_key: CertificatePublicKeyTypes,
    *,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    validity: Validity,
    serial: int | None = None,
) -> bytes:
    above, above_key = _certificate(issuing.chain_pem), private_key(issuing.key_pem)
    certificate = (
        _builder(_name(common_name), above.subject, public_key, validity, serial)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_authority_key_identifier(above), critical=False)
        .sign(above_key, hashes.SHA256())
    )
    return _pem(certificate) + issuing.chain_pem


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
        _builder(subject, issuer, key.public_key(), Validity(now_ms, now_ms + days * DAY_MS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    if above is not None:
        builder = builder.add_extension(_authority_key_identifier(above), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: CertificatePublicKeyTypes,
    validity: Validity,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(at(validity.from_ms) - BACKDATED)
        .not_valid_after(at(validity.until_ms))
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


def at(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms / 1000, tz=UTC)


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def parsed(certificate: bytes) -> x509.Certificate:
    return _certificate(certificate) if b"-----BEGIN" in certificate else x509.load_der_x509_certificate(certificate)


def _certificate(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
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
