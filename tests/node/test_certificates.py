"""Certificates of nodes and clients, and what is refused about a node's own."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from cluster.node.certificate_checks import check_own
from cluster.node.certificates import (
    CertificateIdentity,
    client_identity,
    days_left,
    identity_of,
    issue_client,
    issue_node,
    make_issuing,
    make_root,
    node_identity,
    parse_identity,
)
from cluster.node.errors import CertificateError

NOW = 1_790_000_000_000
DAY = 86_400_000
CLUSTER, MEMBER = "c" * 32, "a" * 32
ROOT = make_root(CLUSTER, NOW)
ISSUING = make_issuing(ROOT, CLUSTER, NOW)
NODE = issue_node(ISSUING, node_identity(CLUSTER, MEMBER), ["127.0.0.1", "mfa.example"], NOW)


def test_a_verifier_that_knows_only_the_root_accepts_the_node_under_its_addresses() -> None:
    leaf, issuing = x509.load_pem_x509_certificates(NODE.chain_pem)
    store = Store([x509.load_pem_x509_certificate(ROOT.chain_pem)])
    builder = PolicyBuilder().store(store).time(datetime.fromtimestamp(NOW / 1000, UTC))
    builder.build_server_verifier(x509.DNSName("mfa.example")).verify(leaf, [issuing])
    verified = builder.build_client_verifier().verify(leaf, [issuing])
    assert f"watchword://{CLUSTER}/node/{MEMBER}" in [name.value for name in verified.subjects or []]


def test_a_client_certificate_is_no_servers() -> None:
    client = issue_client(ISSUING, client_identity(CLUSTER, "portal"), NOW)
    usage = x509.load_pem_x509_certificate(client.chain_pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert list(usage.value) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert identity_of(client.chain_pem) == CertificateIdentity(CLUSTER, "client", "portal")


def test_days_left() -> None:
    assert days_left(NODE.chain_pem, NOW) == 397
    assert days_left(NODE.chain_pem, NOW + 396 * DAY + 1) == 0
    assert days_left(NODE.chain_pem, NOW + 398 * DAY) == -1


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "watchword://x/node/y",
        f"watchword://{CLUSTER}/node/a/b",
        f"https://{CLUSTER}/node/a",
        f"watchword://{CLUSTER}/root/a",
    ],
)
def test_other_uris_are_nobody(uri: str) -> None:
    assert parse_identity(uri) is None


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "\U0001f511", "a\0"])
def test_names_of_clients(name: str) -> None:
    with pytest.raises(CertificateError, match="64"):
        client_identity(CLUSTER, name)


def check(chain: bytes = NODE.chain_pem, key: bytes = NODE.key_pem, now_ms: int = NOW, member: str = MEMBER) -> None:
    check_own(chain, key, node_identity(CLUSTER, member), now_ms, "node.pem")


def test_the_nodes_own_certificate_is_accepted() -> None:
    check()


def test_what_is_wrong_with_the_nodes_own_certificate_is_named() -> None:
    other = issue_node(ISSUING, node_identity(CLUSTER, "b" * 32), ["127.0.0.1"], NOW)
    with pytest.raises(CertificateError, match="expired 20"):
        check(now_ms=NOW + 398 * DAY)
    with pytest.raises(CertificateError, match="not valid before"):
        check(now_ms=NOW - DAY)
    with pytest.raises(CertificateError, match="does not belong to the private key"):
        check(key=other.key_pem)
    with pytest.raises(CertificateError, match="stands for"):
        check(chain=other.chain_pem, key=other.key_pem)
    with pytest.raises(CertificateError, match="not a certificate and key"):
        check(chain=b"nothing")
    with pytest.raises(CertificateError, match="not a certificate and key"):
        check(key=b"nothing")


def test_keys_are_not_shown() -> None:
    assert "PRIVATE" not in repr(NODE)
