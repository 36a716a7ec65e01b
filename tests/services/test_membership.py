"""Members at the door: tokens, joining by one, removal and transfer; and what bad input gets."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cluster.services import limits
from cluster.state import reads
from cluster.state.codec import pack, pack_group
from cluster.state.commands import SettleMember
from cluster.state.genesis import unfilled
from cluster.state.records import INVITATIONS_MAX, Role
from tests.services.certificates import CLUSTER_ID, Leaf
from tests.services.direct_node import MEMBER_ID, DirectNode
from tests.services.door import Door, field_of, open_door, reason_of
from tests.services.test_clients import ClusterAuthority, door, node, request_of
from watchword.join_token import JoinToken, decode
from watchword.v1 import administration_pb2, administration_pb2_grpc, cluster_pb2, cluster_pb2_grpc
from watchword.v1 import members_pb2 as messages

__all__ = ["door", "node"]

NODE_URI = f"watchword://{CLUSTER_ID}/node/{MEMBER_ID}"
KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def operator(door: Door) -> cluster_pb2_grpc.ClusterStub:
    return cluster_pb2_grpc.ClusterStub(door.channel("operator"))


async def invite(operator: cluster_pb2_grpc.ClusterStub, request_id: str = "invite", **fields: Any) -> JoinToken:
    answer = await operator.Invite(messages.InviteRequest(request_id=request_id, **fields))
    token = decode(answer.token)
    assert token.expires_ms == answer.expires_ms
    return token


def joiner(door: Door, token: JoinToken) -> cluster_pb2_grpc.ClusterStub:
    return cluster_pb2_grpc.ClusterStub(door.channel_of(Leaf(token.key, token.certificate)))


def join_request(token: JoinToken, **changed: Any) -> messages.JoinRequest:
    fields = {
        "request_id": "join",
        "secret": token.secret,
        "name": "node-2",
        "client_address": "192.0.2.2:7400",
        "peer_address": "192.0.2.2:7401",
        "csr": request_of(KEY),
        "wants_kek": True,
    }
    return messages.JoinRequest(**{**fields, **changed})


async def error_of(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    return raised.value


def configure(node: DirectNode, *voters: str) -> None:
    """As the leader's node does it, by the log."""
    node.state.configure(node.state.position.index + 1, 1, node.now_ms, sorted(voters), [])


async def joined(door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub) -> str:
    answer = await joiner(door, token := await invite(operator)).Join(join_request(token))
    configure(node, MEMBER_ID, answer.member_id)
    member_id: str = answer.member_id
    return member_id


async def test_a_token_has_what_a_machine_needs(door: Door, operator: cluster_pb2_grpc.ClusterStub) -> None:
    token = await invite(operator)
    assert (token.cluster_id, token.endpoints) == (CLUSTER_ID, ("127.0.0.1:7001",))
    assert token.ca == door.authority.certificate_pem
    answer = await joiner(door, token).Join(join_request(token))
    certificate = x509.load_pem_x509_certificate(answer.certificate_chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        f"watchword://{CLUSTER_ID}/node/{answer.member_id}"
    ], "of the request, only the key counts"
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.2"]
    assert certificate.public_key() == KEY.public_key()
    assert answer.kek == "the key-encryption key"
    assert {(member.name, member.voter) for member in answer.members} == {("node-1", True), ("node-2", False)}


async def test_the_key_comes_only_where_it_is_wanted(door: Door, operator: cluster_pb2_grpc.ClusterStub) -> None:
    token = await invite(operator)
    assert (await joiner(door, token).Join(join_request(token, wants_kek=False))).kek == ""


async def test_a_retry_gives_a_token_for_the_same_invitation(
    door: Door, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    first, again = await invite(operator), await invite(operator)
    assert (first.secret, first.expires_ms) == (again.secret, again.expires_ms)
    await joiner(door, first).Join(join_request(first))
    other = join_request(again, request_id="other", csr=request_of(ec.generate_private_key(ec.SECP256R1())))
    assert reason_of(await error_of(joiner(door, again).Join(other))) == "INVITATION_SPENT"


async def test_joining_again_with_the_same_key_gives_the_same_member(
    door: Door, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    token = await invite(operator)
    first = await joiner(door, token).Join(join_request(token))
    again = await joiner(door, token).Join(join_request(token, request_id="again"))
    assert again.member_id == first.member_id


async def test_a_token_is_good_for_joining_and_for_nothing_else(
    door: Door, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    token = await invite(operator)
    channel = door.channel_of(Leaf(token.key, token.certificate))
    for call in (
        cluster_pb2_grpc.ClusterStub(channel).GetStatus(cluster_pb2.GetStatusRequest()),
        cluster_pb2_grpc.ClusterStub(channel).Invite(messages.InviteRequest(request_id="r")),
        cluster_pb2_grpc.ClusterStub(channel).RemoveMember(messages.RemoveMemberRequest(request_id="r", node="node-1")),
        administration_pb2_grpc.AdministrationStub(channel).GetUser(administration_pb2.GetUserRequest(user_id="a")),
        administration_pb2_grpc.AdministrationStub(channel).RenewClient(
            administration_pb2.RenewClientRequest(request_id="r", csr=request_of(KEY))
        ),
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest()),
    ):
        assert (await error_of(call)).code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("name", [*Role, "nobody"])
async def test_nobody_joins_without_an_invitation(door: Door, node: DirectNode, name: str) -> None:
    stub = cluster_pb2_grpc.ClusterStub(door.channel(name))
    refused = await error_of(stub.Join(messages.JoinRequest(request_id="r", secret=b"s", csr=request_of(KEY))))
    assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
    assert set(reads.members(node.state)) == {MEMBER_ID}


async def test_late_wrong_and_unknown(door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub) -> None:
    token = await invite(operator, ttl_ms=limits.INVITATION_MS_MIN)
    wrong = await error_of(joiner(door, token).Join(join_request(token, secret=b"guessed")))
    assert (wrong.code(), reason_of(wrong)) == (grpc.StatusCode.NOT_FOUND, "NO_INVITATION")
    node.now_ms += limits.INVITATION_MS_MIN
    late = await error_of(joiner(door, token).Join(join_request(token, request_id="late")))
    assert reason_of(late) == "INVITATION_EXPIRED"
    node.state = type(node)().state  # another cluster of the same name does not know it
    lost = await error_of(joiner(door, token).Join(join_request(token, request_id="lost")))
    assert reason_of(lost) == "NO_INVITATION"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a b"),
        ("name", "-x"),
        ("name", "n" * 65),
        ("name", "né"),
        ("client_address", ""),
        ("client_address", "192.0.2.2"),
        ("client_address", "192.0.2.2:0"),
        ("client_address", "192.0.2.2:70000"),
        ("client_address", "0.0.0.0:7400"),
        ("peer_address", "[::]:7401"),
        ("peer_address", "a" * 300 + ":1"),
        ("peer_address", 'x":1'),
        ("csr", b""),
        ("csr", b"\x00" * 20_000),
        ("csr", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
        ("request_id", ""),
    ],
)
async def test_what_no_node_can_be_made_of_is_refused_by_name_and_spends_nothing(
    door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub, field: str, value: str | bytes
) -> None:
    token = await invite(operator)
    refused = await error_of(joiner(door, token).Join(join_request(token, **{field: value})))
    assert (refused.code(), field_of(refused)) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    await joiner(door, token).Join(join_request(token, request_id="good"))


@pytest.mark.parametrize(
    "changed",
    [{"name": "node-1"}, {"client_address": "127.0.0.1:7001"}, {"peer_address": "127.0.0.1:7001"}],
)
async def test_what_another_node_has_is_not_taken(
    door: Door, operator: cluster_pb2_grpc.ClusterStub, changed: dict[str, str]
) -> None:
    token = await invite(operator)
    refused = await error_of(joiner(door, token).Join(join_request(token, **changed)))
    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.ALREADY_EXISTS, "NODE_EXISTS")
    await joiner(door, token).Join(join_request(token, request_id="good"))


@pytest.mark.parametrize("ttl_ms", [-1, 1, limits.INVITATION_MS_MAX + 1, 2**62])
async def test_an_invitation_is_not_for_ever(operator: cluster_pb2_grpc.ClusterStub, ttl_ms: int) -> None:
    refused = await error_of(operator.Invite(messages.InviteRequest(request_id="r", ttl_ms=ttl_ms)))
    assert field_of(refused) == "ttl_ms"


async def test_invitations_are_bounded(operator: cluster_pb2_grpc.ClusterStub) -> None:
    for number in range(INVITATIONS_MAX):
        await invite(operator, f"invite-{number}")
    refused = await error_of(operator.Invite(messages.InviteRequest(request_id="more")))
    assert reason_of(refused) == "LIMIT_REACHED"


async def test_a_change_that_meets_another_waits_for_it(
    door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    first, second = await invite(operator, "one"), await invite(operator, "two")
    one = await joiner(door, first).Join(join_request(first))
    two = join_request(second, request_id="two", name="three", client_address="c:1", peer_address="c:2")
    waiting = asyncio.ensure_future(joiner(door, second).Join(two, timeout=20))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    configure(node, MEMBER_ID, one.member_id)
    assert (await waiting).member_id in reads.members(node.state)


async def test_one_that_waits_too_long_is_told_why(door: Door, operator: cluster_pb2_grpc.ClusterStub) -> None:
    first, second = await invite(operator, "one"), await invite(operator, "two")
    await joiner(door, first).Join(join_request(first))
    two = join_request(second, request_id="two", name="three", client_address="c:1", peer_address="c:2")
    refused = await error_of(joiner(door, second).Join(two, timeout=1))
    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.UNAVAILABLE, "CHANGE_PENDING")


async def test_a_removal_answers_when_the_node_is_gone(
    door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    member_id = await joined(door, node, operator)
    request = messages.RemoveMemberRequest(request_id="remove", node="node-2")
    removing = asyncio.ensure_future(operator.RemoveMember(request, timeout=20))
    await asyncio.sleep(0.2)
    assert not removing.done()
    configure(node, MEMBER_ID)
    assert (await removing).member_id == member_id
    assert (await operator.RemoveMember(request)).member_id == member_id, "a retry, by the name that is gone"


async def test_a_removal_that_was_given_up_says_why(
    door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    member_id = await joined(door, node, operator)
    request = messages.RemoveMemberRequest(request_id="remove", node=member_id)
    removing = asyncio.ensure_future(operator.RemoveMember(request, timeout=20))
    await asyncio.sleep(0.2)
    command = pack(SettleMember(member_id, False), request_id="settle", client=NODE_URI)
    node.state.apply(node.state.position.index + 1, 1, node.now_ms, [pack_group([command])])
    refused = await error_of(removing)
    assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.FAILED_PRECONDITION, "QUORUM_AT_RISK")


@pytest.mark.parametrize("given", ["", "nobody", "ff" * 16, "n" * 300, "node-1"])
async def test_what_can_not_be_removed(operator: cluster_pb2_grpc.ClusterStub, node: DirectNode, given: str) -> None:
    refused = await error_of(operator.RemoveMember(messages.RemoveMemberRequest(request_id="r", node=given)))
    expected = {"node-1": "QUORUM_AT_RISK", "n" * 300: "INVALID_FIELD"}.get(given, "NO_SUCH_NODE")
    assert reason_of(refused) == expected
    assert set(reads.members(node.state)) == {MEMBER_ID}


async def test_leadership_is_handed_on(door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub) -> None:
    member_id = await joined(door, node, operator)
    request = messages.TransferLeadershipRequest(request_id="transfer")
    moving = asyncio.ensure_future(operator.TransferLeadership(request, timeout=20))
    await asyncio.sleep(0.2)
    assert not moving.done()
    node.led_by = None
    await asyncio.sleep(0.2)
    assert not moving.done(), "somebody leads when it is over"
    node.led_by = member_id
    assert (await moving).name == "node-2"
    assert (await operator.TransferLeadership(request)).name == "node-2", "a retry moves nothing"
    there = messages.TransferLeadershipRequest(request_id="there", node="node-2")
    assert (await operator.TransferLeadership(there)).member_id == member_id


async def test_leadership_is_not_handed_to_nobody(
    door: Door, node: DirectNode, operator: cluster_pb2_grpc.ClusterStub
) -> None:
    def ask(request_id: str, given: str = "") -> Any:
        return operator.TransferLeadership(
            messages.TransferLeadershipRequest(request_id=request_id, node=given), timeout=1
        )

    assert reason_of(await error_of(ask("alone"))) == "NOT_A_VOTER"
    assert reason_of(await error_of(ask("nobody", "nobody"))) == "NO_SUCH_NODE"
    token = await invite(operator)
    await joiner(door, token).Join(join_request(token))
    assert reason_of(await error_of(ask("learner", "node-2"))) == "NOT_A_VOTER"
    node.led_by = None
    assert reason_of(await error_of(ask("leaderless"))) == "NO_QUORUM"


async def test_a_node_that_is_not_filled_sends_callers_on(node: DirectNode) -> None:
    """It knows nobody yet, and must not say that they are not allowed."""
    whole = node.state
    node.state = unfilled(
        cluster=whole.identity, members=reads.members(whole), root_certificate=reads.issuing_key(whole).root_certificate
    )
    filled: Callable[[], bool] = lambda: node.state.position.index > 0  # noqa: E731
    async with open_door(ClusterAuthority(), node.roles_of, node.services, node.is_revoked, filled) as door:
        channel = door.channel("operator")
        call = administration_pb2_grpc.AdministrationStub(channel).GetUser(
            administration_pb2.GetUserRequest(user_id="a")
        )
        refused = await error_of(call)
        assert (refused.code(), reason_of(refused)) == (grpc.StatusCode.UNAVAILABLE, "NOT_FILLED")
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
