"""Certificates in real processes: a client is added, used and revoked; nodes change their own under load."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from cluster.node.certificates import (
    DAY_MS,
    CertificateIdentity,
    Credential,
    client_identity,
    issue_client,
    issue_node,
    make_issuing,
    make_root,
    parse_identity,
)
from cluster.node.clock import system_wall_ms
from tests.end_to_end.running import WAIT_S, Cluster, Process, code, enrol
from watchword.client import Client
from watchword.errors import NotAllowed, WatchwordError
from watchword.profile import Profile, load_profile
from watchword.v1 import authentication_pb2, authentication_pb2_grpc

Start = Callable[..., Cluster]


def watchword(*arguments: str, profile: Path) -> tuple[int, str]:
    process = Process(*arguments, "--profile", str(profile))
    try:
        return process.wait(), process.output
    finally:
        process.close()


def raw_channel(profile: Profile, endpoint: str) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        profile.ca_file.read_bytes(), profile.key_file.read_bytes(), profile.certificate_file.read_bytes()
    )
    return grpc.aio.secure_channel(endpoint, credentials, options=[("grpc.enable_retries", 0)])


class OpenStream:
    """A VerifyStream to one node, which is not left."""

    def __init__(self, profile: Profile, endpoint: str) -> None:
        self.channel = raw_channel(profile, endpoint)
        self._requests: asyncio.Queue[authentication_pb2.VerifyBatch] = asyncio.Queue()
        self.call = authentication_pb2_grpc.AuthenticationStub(self.channel).VerifyStream(self._outgoing())

    async def _outgoing(self) -> AsyncIterator[authentication_pb2.VerifyBatch]:
        while True:
            yield await self._requests.get()

    async def verify(self, request_id: str) -> authentication_pb2.VerifyResult:
        request = authentication_pb2.VerifyRequest(request_id=request_id, user_id="nobody", passcode="000000")
        self._requests.put_nowait(authentication_pb2.VerifyBatch(requests=[request]))
        answer = await self.call.read()
        return answer.results[0]


async def ended(stream: OpenStream) -> grpc.StatusCode:
    """How a stream ends on which nothing is sent any more: its node looks again by itself."""
    async with asyncio.timeout(WAIT_S):
        found: grpc.StatusCode = await stream.call.code()
        return found


async def refused(client: Client) -> str:
    """What a node says to a new call, as soon as it has applied what the cluster has acknowledged."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await client.verify("alice", "000000")
            except NotAllowed as error:
                return error.reason


async def test_a_client_is_added_signs_in_and_is_revoked_everywhere(start: Start, tmp_path: Path) -> None:
    cluster = start()
    operator = cluster.directory / "client.toml"
    await cluster.until_serving(1, 2, 3)
    exit_code, out = await asyncio.to_thread(
        watchword, "client", "add", "radius", "--role", "frontend", "--out", str(tmp_path / "radius"), profile=operator
    )
    assert exit_code == 0, out
    profile = load_profile(tmp_path / "radius" / "client.toml")
    assert profile.endpoints == cluster.profile.endpoints
    async with cluster.client() as client:
        await enrol(client, "alice")
    async with Client(profile) as radius:
        assert (await radius.verify("alice", code(0))).accepted
        with pytest.raises(NotAllowed):
            await radius.add_user("bob")
    exit_code, out = await asyncio.to_thread(watchword, "client", "renew", profile=tmp_path / "radius" / "client.toml")
    assert exit_code == 0, out
    streams = [OpenStream(profile, endpoint) for endpoint in profile.endpoints]
    clients = [Client(profile.at(endpoint)) for endpoint in profile.endpoints]
    for number, stream in enumerate(streams):
        assert (await stream.verify(f"before-{number}")).response.decision == authentication_pb2.DECISION_REJECT
        assert not (await clients[number].verify("alice", "000000")).accepted
    async with cluster.client() as client:
        await client.revoke_client("radius")
    for number in range(3):
        assert await ended(streams[number]) is grpc.StatusCode.UNAUTHENTICATED
        assert await refused(clients[number]) == "CERTIFICATE_REVOKED"
    for each in (*clients, *(stream.channel for stream in streams)):
        await each.close()
    exit_code, out = await asyncio.to_thread(
        watchword, "verify", "alice", "--json", code(1), profile=tmp_path / "radius" / "client.toml"
    )
    assert exit_code == 2
    assert json.loads(out)["error"] == "CERTIFICATE_REVOKED"
    exit_code, out = await asyncio.to_thread(watchword, "client", "revoke", "developer", profile=operator)
    assert exit_code == 1
    assert "add another operator first" in out


async def test_certificates_of_another_cluster_expired_or_not_yet_valid(start: Start, tmp_path: Path) -> None:
    cluster = start("--nodes", "1")
    await cluster.until_serving(1)
    own = cluster.profile
    now_ms = system_wall_ms()
    root = Credential(own.ca_file.read_bytes(), (cluster.directory / "root.key").read_bytes())
    cluster_id = identity_in(own.certificate_file.read_bytes()).cluster_id
    issuing = make_issuing(root, cluster_id, now_ms)
    stranger = make_issuing(make_root("e" * 32, now_ms), "e" * 32, now_ms)
    cases = {
        "expired": (issuing, cluster_id, now_ms - 800 * DAY_MS, "expired on"),
        "early": (issuing, cluster_id, now_ms + DAY_MS, "is valid from"),
        "stranger": (stranger, "e" * 32, now_ms, "no connection to"),
        "another": (issuing, "e" * 32, now_ms, "belongs to another cluster"),
    }
    for name, (authority, in_cluster, at_ms, says) in cases.items():
        credential = issue_client(authority, client_identity(in_cluster, "developer"), at_ms)
        (tmp_path / f"{name}.pem").write_bytes(credential.chain_pem)
        (tmp_path / f"{name}.key").write_bytes(credential.key_pem)
        profile = Profile(own.endpoints, own.ca_file, tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
        with pytest.raises(WatchwordError, match=says):
            async with Client(profile, timeout_s=2.0) as client:
                await client.list_users()


async def test_nodes_change_their_certificates_under_load_and_no_call_fails(start: Start) -> None:
    cluster = start()
    await cluster.until_serving(1, 2, 3)
    async with cluster.client() as client:
        await enrol(client, "alice")
    over, answered = asyncio.Event(), [0, 0, 0]

    async def sign_in(number: int) -> None:
        """At one node only, and without another attempt: each answer is its own."""
        async with raw_channel(cluster.profile, cluster.profile.endpoints[number]) as channel:
            stub = authentication_pb2_grpc.AuthenticationStub(channel)
            while not over.is_set():
                request = authentication_pb2.VerifyRequest(
                    request_id=f"{number}-{answered[number]}", user_id="nobody", passcode="000000"
                )
                await stub.Verify(request, timeout=30)
                answered[number] += 1

    callers = [asyncio.ensure_future(sign_in(number)) for number in range(3)]
    root = Credential(cluster.profile.ca_file.read_bytes(), (cluster.directory / "root.key").read_bytes())
    for number in (1, 2, 3):
        directory = cluster.node(number)
        before = (directory / "node.pem").read_bytes()
        identity = identity_in(before)
        # An operator puts one there of which two thirds are over, and the node renews it.
        old_ms = system_wall_ms() - 300 * DAY_MS
        issuing = make_issuing(root, identity.cluster_id, old_ms)
        credential = issue_node(issuing, identity, ["127.0.0.1", "localhost", "::1"], old_ms)
        (directory / "node.key").write_bytes(credential.key_pem)
        (directory / "node.pem").write_bytes(credential.chain_pem)
        await cluster.until(
            lambda _, number=number: cluster.log(number).count('"certificate_in_use"') == 2, "both certificates in use"
        )
        assert '"certificate_renewed"' in cluster.log(number)
        renewed = x509.load_pem_x509_certificate((directory / "node.pem").read_bytes())
        assert renewed.not_valid_before_utc.timestamp() * 1000 > system_wall_ms() - DAY_MS
        assert await serial_shown(cluster, number) == renewed.serial_number
        for caller in callers:
            assert not caller.done(), caller.exception()
    seen = list(answered)
    await cluster.until(lambda _: all(now > then for now, then in zip(answered, seen, strict=True)), "answers since")
    over.set()
    await asyncio.gather(*callers)
    # Peers take each other's new certificates: whoever comes back connects with them.
    cluster.kill(2)
    cluster.restart(2)
    await cluster.until_serving(1, 2, 3)
    assert "certificate_refused" not in "".join(cluster.log(number) for number in (1, 2, 3))


def identity_in(pem: bytes) -> CertificateIdentity:
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    identity = parse_identity(uri)
    assert identity is not None
    return identity


async def serial_shown(cluster: Cluster, number: int) -> int:
    profile = cluster.profile
    context = ssl.create_default_context(cafile=profile.ca_file)
    context.load_cert_chain(profile.certificate_file, profile.key_file)
    context.set_alpn_protocols(["h2"])
    host, _, port = profile.endpoints[number - 1].rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate).serial_number
