"""Who this node is, as its files say, and the TLS that follows from it.

The certificate is checked before the first connection, so that an expired one or one of another node is a line at the
start and not a riddle in the logs of its peers.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cluster.node.certificate_checks import check_own
from cluster.node.certificates import identity_of, node_identity
from cluster.node.errors import CertificateError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM contents: the root, the node's chain, its key."""

    root_pem: bytes
    chain_pem: bytes
    key_pem: bytes = field(repr=False)


def load_tls_files(ca_file: Path, certificate_file: Path, key_file: Path) -> TlsFiles:
    """Read the three files.

    Raises:
        CertificateError: one is missing, or others than the owner may read the key.
    """
    contents = []
    for path in (ca_file, certificate_file, key_file):
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise CertificateError(
                f"{path}: can't be read ({error.strerror}); see [certificates] in the configuration"
            ) from error
    mode = stat.S_IMODE(os.stat(key_file).st_mode)
    if mode & 0o077:
        raise CertificateError(f"{key_file}: mode {mode:04o} lets others read the private key; run chmod 600 on it")
    return TlsFiles(*contents)


def check_tls_files(files: TlsFiles, cluster_id: str, member_id: str, now_ms: int, path: Path) -> None:
    """That the certificate is this member's and valid now.

    Raises:
        CertificateError: it isn't.
    """
    check_own(files.chain_pem, files.key_pem, node_identity(cluster_id, member_id), now_ms, str(path))


def peer_contexts(ca_file: Path, certificate_file: Path, key_file: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS 1.3 for accepting and for dialling peers, mutual in both.

    Names of hosts are not checked: a peer is known by the member id in its certificate, wherever it is reached.

    Raises:
        CertificateError: OpenSSL doesn't take the files.
    """
    contexts = []
    for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # nothing is resumed: each connection shows its certificate
        try:
            context.load_verify_locations(ca_file)
            context.load_cert_chain(certificate_file, key_file)
        except (ssl.SSLError, OSError) as error:
            raise CertificateError(
                f"{certificate_file}: the certificate files don't fit together; see [certificates] in the configuration"
            ) from error
        contexts.append(context)
    return contexts[0], contexts[1]


def node_of_certificate(certificate: bytes) -> tuple[str, str] | None:
    """(cluster id, member id) of a node's certificate (DER), None for any other."""
    try:
        identity = identity_of(certificate)
    except ValueError:
        return None
    if identity is None or identity.kind != "node":
        return None
    return identity.cluster_id, identity.name
