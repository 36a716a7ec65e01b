"""Clients over real TLS: a certificate from a request, its use, its renewal, and the end of it."""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.node.authority import KEYS, IssuingAuthority
from cluster.node.certificates import (
    Credential,
    client_identity,
    issue_client,
    issue_node,
    make_issuing,
    make_root,
    node_identity,
)
from cluster.node.clock import system_wall_ms
from cluster.services import limits
from cluster.services.authority import UnusableRequest
from cluster.services.server import TlsIdentity
from cluster.state.records import IssuingKey, Role
from tests.services.certificates import CLUSTER_ID, Authority, Leaf, client_uri
from tests.services.direct_node import MEMBER_ID, DirectNode, first_state
from tests.services.door import Door, field_of, open_door, reason_of
from watchword.v1 import administration_pb2 as messages
from watchword.v1 import authentication_pb2, authentication_pb2_grpc
from watchword.v1.administration_pb2_grpc import AdministrationStub

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey
NOW_MS = system_wall_ms()
ROOT = make_root(CLUSTER_ID, NOW_MS)
ISSUING = make_issuing(ROOT, CLUSTER_ID, NOW_MS)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


class ClusterAuthority(Authority):
    """The cluster's own authority in the place of the tests'."""

    def __init__(self) -> None:
        super().__init__()
        self.certificate_pem = ROOT.chain_pem

    def leaf(self, *uris: str, **_: object) -> Leaf:
        (uri,) = uris
        name = uri.removeprefix(client_uri(""))
        credential = issue_client(ISSUING, client_identity(CLUSTER_ID, name), NOW_MS)
        return Leaf(credential.key_pem, credential.chain_pem)

    def server_identity(self) -> TlsIdentity:
        credential = issue_node(ISSUING, node_identity(CLUSTER_ID, MEMBER_ID), ["127.0.0.1"], NOW_MS)
        return TlsIdentity(credential.key_pem, credential.chain_pem, ROOT.chain_pem)


@pytest.fixture
def node() -> DirectNode:
    issuing_key = IssuingKey(ISSUING.key_pem, ISSUING.chain_pem, ROOT.chain_pem)
    node = DirectNode(first_state(issuing_key=issuing_key, created_ms=NOW_MS))
    node.now_ms = NOW_MS
    return node


@pytest.fixture
async def door(node: DirectNode) -> AsyncIterator[Door]:
    async with open_door(ClusterAuthority(), node.roles_of, node.services, node.is_revoked) as opened:
        yield opened


@pytest.fixture
def operator(door: Door) -> AdministrationStub:
    return AdministrationStub(door.channel("operator"))


def request_of(key: Key = EC_KEY, name: str = "anybody") -> bytes:
    """A signing request, with a name of its own that nobody asked for."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    uri = x509.UniformResourceIdentifier(client_uri("operator"))
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    chosen = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, chosen).public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def added(
    operator: AdministrationStub, name: str, *roles: messages.Role.ValueType, request_id: str | None = None
) -> messages.AddClientResponse:
    request = messages.AddClientRequest(
        request_id=request_id or f"add-{name}", name=name, roles=roles or [messages.ROLE_FRONTEND], csr=request_of()
    )
    return await operator.AddClient(request)


def channel_with(door: Door, chain_pem: bytes, key: Key = EC_KEY) -> aio.Channel:
    return door.channel_of(Leaf(key_pem(key), chain_pem))


async def refused(call: Awaitable[Any]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    return raised.value


async def verify(channel: aio.Channel, request_id: str = "r") -> authentication_pb2.VerifyResponse:
    request = authentication_pb2.VerifyRequest(request_id=request_id, user_id="nobody", passcode="000000")
    return await authentication_pb2_grpc.AuthenticationStub(channel).Verify(request)


async def test_a_certificate_signs_in_until_it_is_revoked(door: Door, operator: AdministrationStub) -> None:
    response = await added(operator, "radius")
    assert response.client.identity == client_uri("radius")
    assert response.root_certificate == ROOT.chain_pem
    assert b"PRIVATE" not in response.SerializeToString()
    channel = channel_with(door, response.certificate_chain)
    answer = await verify(channel)
    assert answer.decision == authentication_pb2.DECISION_REJECT
    await operator.RevokeClient(messages.RevokeClientRequest(request_id="end", name="radius"))
    health = health_pb2_grpc.HealthStub(channel)
    for call in (verify(channel, "r-2"), health.Check(health_pb2.HealthCheckRequest())):
        error = await refused(call)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert reason_of(error) == "CERTIFICATE_REVOKED"


async def test_a_certificate_says_what_was_asked_for_and_nothing_of_the_request(operator: AdministrationStub) -> None:
    response = await added(operator, "radius")
    leaf, _issuing = x509.load_pem_x509_certificates(response.certificate_chain)
    assert leaf.subject.rfc4514_string() == "CN=client radius"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [client_uri("radius")]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]
    assert leaf.public_key() == EC_KEY.public_key()
    (certificate,) = response.client.certificates
    assert f"{leaf.serial_number:032x}" == certificate.serial
    assert leaf.not_valid_after_utc.timestamp() == certificate.valid_until_ms // 1000
    assert leaf.not_valid_before_utc.timestamp() * 1000 <= NOW_MS - 299_000


async def test_a_retry_gives_the_same_name_number_and_end(operator: AdministrationStub, node: DirectNode) -> None:
    first = await added(operator, "radius", messages.ROLE_FRONTEND, messages.ROLE_AUDITOR)
    node.now_ms += 20_000
    again = await added(operator, "radius", messages.ROLE_AUDITOR, messages.ROLE_FRONTEND)
    one, other = (x509.load_pem_x509_certificate(each.certificate_chain) for each in (first, again))
    assert one.tbs_certificate_bytes == other.tbs_certificate_bytes
    assert first.client == again.client
    error = await refused(added(operator, "other", request_id="add-radius"))
    assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")
    await operator.RevokeClient(messages.RevokeClientRequest(request_id="end", name="radius"))
    error = await refused(added(operator, "radius", messages.ROLE_AUDITOR, messages.ROLE_FRONTEND))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "CLIENT_REVOKED")


async def test_a_name_that_is_added_again_leaves_its_earlier_certificates_revoked(
    door: Door, operator: AdministrationStub
) -> None:
    first = await added(operator, "radius")
    await operator.RevokeClient(messages.RevokeClientRequest(request_id="end", name="radius"))
    second = await added(operator, "radius", request_id="again")
    assert second.client.identity == f"{client_uri('radius')}/2"
    assert second.client.name == "radius"
    assert reason_of(await refused(verify(channel_with(door, first.certificate_chain)))) == "CERTIFICATE_REVOKED"
    await verify(channel_with(door, second.certificate_chain))
    taken = await refused(added(operator, "radius", request_id="third"))
    assert (taken.code(), reason_of(taken)) == (grpc.StatusCode.ALREADY_EXISTS, "CLIENT_EXISTS")


async def test_a_client_renews_its_own_certificate(door: Door, operator: AdministrationStub, node: DirectNode) -> None:
    first = await added(operator, "radius")
    stub = AdministrationStub(channel_with(door, first.certificate_chain))
    node.now_ms += 1_000
    other_key = rsa.generate_private_key(65_537, 2048)
    request = messages.RenewClientRequest(request_id="renew", csr=request_of(other_key))
    renewed = await stub.RenewClient(request)
    assert renewed.client.identity == client_uri("radius")
    assert len(renewed.client.certificates) == 2
    again = await stub.RenewClient(request)
    assert again.client == renewed.client
    await verify(channel_with(door, renewed.certificate_chain, other_key))
    await verify(channel_with(door, first.certificate_chain), "r-2")
    await operator.RevokeClient(messages.RevokeClientRequest(request_id="end", name="radius"))
    for chain, key in ((first.certificate_chain, EC_KEY), (renewed.certificate_chain, other_key)):
        assert reason_of(await refused(verify(channel_with(door, chain, key)))) == "CERTIFICATE_REVOKED"
    assert reason_of(await refused(stub.RenewClient(request))) == "CERTIFICATE_REVOKED"


async def test_the_last_operator_is_not_revoked(operator: AdministrationStub) -> None:
    for name in ("everything", "operator"):
        last = name == "operator"
        call = operator.RevokeClient(messages.RevokeClientRequest(request_id=f"end-{name}", name=name))
        if not last:
            await call
            continue
        error = await refused(call)
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "LAST_OPERATOR")


async def test_clients_are_listed_in_pages(door: Door, operator: AdministrationStub) -> None:
    await added(operator, "radius")
    await operator.RevokeClient(messages.RevokeClientRequest(request_id="end", name="radius"))
    found = []
    token = ""
    auditor = AdministrationStub(door.channel("auditor"))
    while True:
        page = await auditor.ListClients(messages.ListClientsRequest(page_size=2, page_token=token))
        found += page.clients
        token = page.next_page_token
        if not token:
            break
    assert [client.name for client in found] == [*sorted([*Role, "everything"]), "radius"]
    radius = found[-1]
    assert (radius.revoked_ms, radius.revoked_by, radius.created_by) == (
        NOW_MS,
        client_uri("operator"),
        client_uri("operator"),
    )
    error = await refused(auditor.ListClients(messages.ListClientsRequest(page_token="!")))
    assert field_of(error) == "page_token"


async def test_an_unknown_client_is_not_found(operator: AdministrationStub) -> None:
    error = await refused(operator.RevokeClient(messages.RevokeClientRequest(request_id="x", name="nobody")))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_CLIENT")


@pytest.mark.parametrize("name", ["", "a b", "a/2", "x" * 65, "é", "a\0", "../a"])
async def test_what_is_no_name(operator: AdministrationStub, name: str) -> None:
    for call in (
        added(operator, name),
        operator.RevokeClient(messages.RevokeClientRequest(request_id="x", name=name)),
    ):
        error = await refused(call)
        assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "name")


async def test_what_are_no_roles(operator: AdministrationStub) -> None:
    for roles in ([], [0], [messages.ROLE_AUDITOR, 99], [messages.ROLE_AUDITOR] * (limits.ROLES_MAX + 1)):
        request = messages.AddClientRequest(request_id="x", name="a", roles=roles, csr=request_of())  # type: ignore[arg-type]
        error = await refused(operator.AddClient(request))
        assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "roles")


def flipped(pem: bytes) -> bytes:
    """A request whose signature is not its own."""
    der = bytearray(x509.load_pem_x509_csr(pem).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return (
        b"-----BEGIN CERTIFICATE REQUEST-----\n"
        + base64.encodebytes(bytes(der))
        + (b"-----END CERTIFICATE REQUEST-----\n")
    )


WRONG: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "huge": lambda: request_of() + b"\n" * limits.CSR_BYTES_MAX,
    "garbage": lambda: b"\xff\0" * 50,
    "a certificate": lambda: ROOT.chain_pem,
    "not PEM": lambda: x509.load_pem_x509_csr(request_of()).public_bytes(serialization.Encoding.DER),
    "cut": lambda: request_of()[:200],
    "bad signature": lambda: flipped(request_of()),
    "a key of 1024 bits": lambda: request_of(rsa.generate_private_key(65_537, 1024)),
    "an exponent of 3": lambda: request_of(rsa.generate_private_key(3, 2048)),
    "Ed25519": lambda: request_of(ed25519.Ed25519PrivateKey.generate()),
    "DSA": lambda: request_of(dsa.generate_private_key(1024)),
    "P-521": lambda: request_of(ec.generate_private_key(ec.SECP521R1())),
}


@pytest.mark.parametrize("kind", WRONG)
async def test_what_is_no_request_for_a_certificate(operator: AdministrationStub, node: DirectNode, kind: str) -> None:
    csr = WRONG[kind]()
    before = node.state.position
    for call in (
        operator.AddClient(messages.AddClientRequest(request_id="x", name="a", roles=[messages.ROLE_AUDITOR], csr=csr)),
        operator.RenewClient(messages.RenewClientRequest(request_id="y", csr=csr)),
    ):
        error = await refused(call)
        assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "csr")
    assert node.state.position == before


def test_a_key_that_takes_long_to_check_with_is_not_checked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.node.authority.RSA_BITS_MAX", 3072)
    with pytest.raises(UnusableRequest, match=KEYS):
        IssuingAuthority().requested_key(flipped(request_of(rsa.generate_private_key(65_537, 3080))))


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_keys_that_are_signed(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    found = serialization.load_der_public_key(IssuingAuthority().requested_key(request_of(key)))
    assert found == key.public_key()


async def test_a_certificate_of_another_cluster_or_one_that_is_over_or_not_begun(door: Door) -> None:
    """TLS refuses the first by its root; and each that is outside its time."""
    stranger_root = make_root(CLUSTER_ID, NOW_MS)
    stranger = make_issuing(stranger_root, CLUSTER_ID, NOW_MS)
    day_ms = 86_400_000
    identity = client_identity(CLUSTER_ID, "operator")

    def leaf(issuing: Credential, now_ms: int) -> Leaf:
        credential = issue_client(issuing, identity, now_ms)
        return Leaf(credential.key_pem, credential.chain_pem)

    for wrong in (leaf(stranger, NOW_MS), leaf(ISSUING, NOW_MS - 731 * day_ms), leaf(ISSUING, NOW_MS + day_ms)):
        error = await refused(verify(door.channel_of(wrong)))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    other = issue_client(ISSUING, client_identity("ee" * 16, "operator"), NOW_MS)
    error = await refused(verify(door.channel_of(Leaf(other.key_pem, other.chain_pem))))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAUTHENTICATED, "NO_IDENTITY")
