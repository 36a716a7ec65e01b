"""A certificate authority for tests: an EC key, a root, and leaves with whatever names a test wants."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cluster.services.server import TlsIdentity

CLUSTER_ID = "c0" * 16
ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Leaf:
    key_pem: bytes
    certificate_pem: bytes


class Authority:
    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        builder = self._builder(self._name, self._key.public_key(), ONE_DAY)
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    def leaf(self, *uris: str, valid_for: timedelta = ONE_DAY) -> Leaf:
        """A certificate for 127.0.0.1 and these URIs; with a negative `valid_for` it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test leaf")])
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = self._builder(name, key.public_key(), valid_for)
        certificate = builder.add_extension(x509.SubjectAlternativeName([address, *names]), critical=False).sign(
            self._key, hashes.SHA256()
        )
        return Leaf(
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        )

    def _builder(
        self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey, valid_for: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * ONE_DAY)
            .not_valid_after(now + valid_for)
        )

    def server_identity(self) -> TlsIdentity:
        leaf = self.leaf(f"watchword://{CLUSTER_ID}/node/{'d0' * 16}")
        return TlsIdentity(key_pem=leaf.key_pem, chain_pem=leaf.certificate_pem, root_pem=self.certificate_pem)

    def channel_credentials(self, leaf: Leaf | None) -> grpc.ChannelCredentials:
        if leaf is None:
            return grpc.ssl_channel_credentials(self.certificate_pem)
        return grpc.ssl_channel_credentials(self.certificate_pem, leaf.key_pem, leaf.certificate_pem)


def client_uri(name: str, cluster_id: str = CLUSTER_ID) -> str:
    return f"watchword://{cluster_id}/client/{name}"
