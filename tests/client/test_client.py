"""A client against real servers over mutual TLS: failover with one request id, deadlines, decisions, errors."""

import itertools
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cluster.services import status as answers
from cluster.services.status import Reason
from tests.client.fake_cluster import HANG, FakeCluster, write_profile
from tests.services.certificates import Authority, client_uri
from watchword import errors
from watchword.client import Client, Verification
from watchword.failover import FailoverPolicy
from watchword.profile import Profile, load_profile
from watchword.v1 import administration_pb2 as administration
from watchword.v1 import authentication_pb2 as authentication
from watchword.v1 import cluster_pb2 as cluster

ACCEPTED = authentication.VerifyResponse(
    decision=authentication.DECISION_ACCEPT, reason=authentication.REASON_ACCEPTED, token_id="t1"
)
REJECTED = authentication.VerifyResponse(
    decision=authentication.DECISION_REJECT,
    reason=authentication.REASON_REPLAYED,
    advice=authentication.ADVICE_TRY_AGAIN,
)
NO_QUORUM = answers.unavailable(Reason.NO_QUORUM, "no majority of the nodes answers")
SHORT = FailoverPolicy(attempt_s_max=0.5)


def client_of(profile: Profile, *, timeout_s: float = 10.0, policy: FailoverPolicy | None = None) -> Client:
    """One that begins with the first endpoint and draws half of each backoff."""
    return Client(profile, timeout_s=timeout_s, policy=policy, random=lambda: 0.0)


async def test_an_acceptance_is_one(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [ACCEPTED]
    async with client_of(fake_cluster.profile()) as client:
        verification = await client.verify("alice", "123456", application="vpn", address="10.0.0.1", token_id="t1")
    assert verification == Verification(accepted=True, reason="ACCEPTED", advice="", token_id="t1")
    [request] = node.asked("Verify")
    assert (request.user_id, request.passcode, request.token_id) == ("alice", "123456", "t1")
    assert (request.client.application, request.client.address) == ("vpn", "10.0.0.1")
    assert 1 <= len(request.request_id) <= 64


async def test_a_rejection_says_why_to_those_who_may_know(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [REJECTED]
    async with client_of(fake_cluster.profile()) as client:
        verification = await client.verify("alice", "123456")
    assert verification == Verification(accepted=False, reason="REPLAYED", advice="TRY_AGAIN", token_id="")
    assert verification.decision == "REJECT"


@pytest.mark.parametrize("decision", [authentication.DECISION_UNSPECIFIED, 3, 4, 77])
async def test_a_decision_that_is_not_known_is_a_rejection(fake_cluster: FakeCluster, decision: int) -> None:
    [node] = fake_cluster.start(1)
    unknown = authentication.VerifyResponse(reason=99, advice=99)  # type: ignore[arg-type]
    unknown.decision = decision  # type: ignore[assignment]
    node.answers["Verify"] = [unknown]
    async with client_of(fake_cluster.profile()) as client:
        verification = await client.verify("alice", "123456")
    assert not verification.accepted
    assert (verification.decision, verification.reason, verification.advice) == ("REJECT", "", "")


@pytest.mark.parametrize(
    "failure", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED, NO_QUORUM, HANG]
)
async def test_the_next_node_is_asked_the_same_with_the_same_request_id(
    fake_cluster: FakeCluster, failure: grpc.StatusCode
) -> None:
    first, second = fake_cluster.start(2)
    first.answers["Verify"] = [failure]
    second.answers["Verify"] = [ACCEPTED]
    async with client_of(fake_cluster.profile(), policy=SHORT) as client:
        verification = await client.verify("alice", "123456")
    assert verification.accepted
    assert first.asked("Verify") == second.asked("Verify")


async def test_a_node_that_is_gone_is_passed_over(fake_cluster: FakeCluster) -> None:
    gone, alive = fake_cluster.start(2)
    gone.stop()
    alive.answers["AddUser"] = [administration.AddUserResponse(user=administration.User(user_id="alice"))]
    async with client_of(fake_cluster.profile()) as client:
        added = await client.add_user("alice", request_id="one")
        again = await client.add_user("alice", request_id="one")
    assert added == again
    assert [request.request_id for request in alive.asked("AddUser")] == ["one", "one"]


async def test_a_client_keeps_to_the_node_that_answers(fake_cluster: FakeCluster) -> None:
    first, second = fake_cluster.start(2)
    first.answers["Verify"] = [grpc.StatusCode.UNAVAILABLE, ACCEPTED]
    second.answers["Verify"] = [ACCEPTED]
    async with client_of(fake_cluster.profile()) as client:
        for _ in range(3):
            assert (await client.verify("alice", "123456")).accepted
    assert len(first.asked("Verify")) == 1
    assert len(second.asked("Verify")) == 3


async def test_each_call_has_a_request_id_of_its_own(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [REJECTED]
    async with client_of(fake_cluster.profile()) as client:
        for _ in range(3):
            await client.verify("alice", "123456")
    assert len({request.request_id for request in node.asked("Verify")}) == 3


async def test_a_full_queue_is_waited_for(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [answers.exhausted(Reason.QUEUE_FULL, "the queue is full"), ACCEPTED]
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with Client(fake_cluster.profile(), random=lambda: 0.0, sleep=sleep) as client:
        assert (await client.verify("alice", "123456")).accepted
    assert len(waits) == 1
    assert waits[0] >= answers.RETRY_AFTER_S
    assert len({request.request_id for request in node.asked("Verify")}) == 1


async def test_without_a_quorum_the_error_says_so_within_the_time(fake_cluster: FakeCluster) -> None:
    for node in fake_cluster.start(3):
        node.answers["Verify"] = [NO_QUORUM]
    clock = itertools.count(0.0, 0.25)
    async with Client(
        fake_cluster.profile(), timeout_s=3.0, random=lambda: 0.0, monotonic=lambda: next(clock), sleep=_no_wait
    ) as client:
        with pytest.raises(errors.NoQuorum) as raised:
            await client.verify("alice", "123456")
    assert raised.value.reason == "NO_QUORUM"
    assert "majority" in str(raised.value)
    assert all(node.asked("Verify") for node in fake_cluster.nodes)


async def _no_wait(seconds: float) -> None:
    assert seconds >= 0


async def test_nobody_there_is_no_connection(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.stop()
    async with client_of(fake_cluster.profile(), timeout_s=0.5) as client:
        with pytest.raises(errors.NoConnection) as raised:
            await client.verify("alice", "123456")
    assert node.endpoint in str(raised.value)


async def test_a_hung_cluster_is_no_answer_in_time(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [HANG]
    async with client_of(fake_cluster.profile(), timeout_s=0.5) as client:
        with pytest.raises(errors.NoAnswerInTime):
            await client.verify("alice", "123456")


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (answers.invalid("user_id", "must not be empty"), errors.InvalidArgument, "user_id"),
        (answers.request_id_reused(), errors.InvalidArgument, "request_id"),
        (answers.unauthenticated("this certificate is unknown"), errors.NotAllowed, "certificate"),
        (answers.not_allowed(), errors.NotAllowed, "role"),
        (answers.no_such_user(), errors.NotFound, "no such user"),
        (answers.user_exists(), errors.AlreadyExists, "already"),
        (
            answers.precondition(Reason.CODE_NOT_ACCEPTED, "code", "the code is not right", "try"),
            errors.FailedPrecondition,
            "code",
        ),
        (answers.internal(), errors.Unexpected, "log"),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unexpected, "UNIMPLEMENTED"),
        (grpc.StatusCode.DATA_LOSS, errors.Unexpected, "DATA_LOSS"),
    ],
)
async def test_an_answer_that_is_an_error_is_final_and_typed(
    fake_cluster: FakeCluster, failure: answers.CallError, kind: type[errors.WatchwordError], words: str
) -> None:
    first, second = fake_cluster.start(2)
    first.answers["GetUser"] = [failure]
    async with client_of(fake_cluster.profile()) as client:
        with pytest.raises(kind) as raised:
            await client.get_user("alice")
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    if isinstance(failure, answers.CallError):
        assert raised.value.reason == failure.reason
    assert second.requests == []


async def test_the_field_that_is_wrong_is_named(fake_cluster: FakeCluster) -> None:
    [node] = fake_cluster.start(1)
    node.answers["Verify"] = [answers.request_id_reused()]
    async with client_of(fake_cluster.profile()) as client:
        with pytest.raises(errors.InvalidArgument) as raised:
            await client.verify("alice", "123456", request_id="one")
    assert raised.value.field == "request_id"


async def test_statuses_come_from_every_endpoint_and_each_once(fake_cluster: FakeCluster) -> None:
    first, second, gone = fake_cluster.start(3)
    first.answers["GetStatus"] = [cluster.GetStatusResponse(quorum=True)]
    second.answers["GetStatus"] = [answers.not_allowed()]
    gone.stop()
    async with client_of(fake_cluster.profile(), policy=SHORT) as client:
        found = await client.get_statuses()
    assert list(found) == [first.endpoint, second.endpoint, gone.endpoint]
    assert found[first.endpoint] == cluster.GetStatusResponse(quorum=True)
    assert isinstance(found[second.endpoint], errors.NotAllowed)
    assert isinstance(found[gone.endpoint], errors.NoConnection)


async def test_another_clusters_authority_is_named(fake_cluster: FakeCluster, tmp_path: Path) -> None:
    [node] = fake_cluster.start(1)
    stranger = Authority()
    profile = load_profile(write_profile(tmp_path / "stranger", stranger, [node.endpoint]))
    async with client_of(profile, timeout_s=0.5) as client:
        with pytest.raises(errors.NoConnection) as raised:
            await client.verify("alice", "123456")
    assert "CA did not issue" in str(raised.value)
    assert node.requests == []


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, 30.5, float("nan")])
async def test_a_time_outside_its_range_is_refused(fake_cluster: FakeCluster, timeout_s: float) -> None:
    with pytest.raises(errors.InvalidArgument):
        Client(fake_cluster.profile("127.0.0.1:1"), timeout_s=timeout_s)


@pytest.mark.parametrize("passcode", ["12\udc8034", "x" * 100_000])
async def test_what_cannot_be_sent_is_refused_without_repeating_it(fake_cluster: FakeCluster, passcode: str) -> None:
    [node] = fake_cluster.start(1)
    async with client_of(fake_cluster.profile()) as client:
        with pytest.raises(errors.InvalidArgument) as raised:
            await client.verify("alice", passcode)
    assert passcode not in str(raised.value)
    assert raised.value.__cause__ is None
    assert node.requests == []


async def test_an_expired_certificate_is_named_before_anything_is_sent(
    fake_cluster: FakeCluster, authority: Authority
) -> None:
    [node] = fake_cluster.start(1)
    leaf = authority.leaf(client_uri("alice"), valid_for=-timedelta(days=1))
    profile = load_profile(fake_cluster.profile_path(leaf=leaf))
    with pytest.raises(errors.CredentialsError, match="expired on"):
        Client(profile)
    assert node.requests == []


async def test_a_key_of_another_certificate_is_named(fake_cluster: FakeCluster, authority: Authority) -> None:
    profile = fake_cluster.profile("127.0.0.1:1")
    profile.key_file.write_bytes(authority.leaf(client_uri("bob")).key_pem)
    with pytest.raises(errors.CredentialsError, match="does not belong"):
        Client(profile)


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("contents", [None, b"", b"nonsense"])
def test_files_that_cannot_be_used_are_named(fake_cluster: FakeCluster, name: str, contents: bytes | None) -> None:
    profile = fake_cluster.profile("127.0.0.1:1")
    path: Path = getattr(profile, name)
    path.unlink()
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(errors.CredentialsError) as raised:
        Client(profile)
    assert str(path) in str(raised.value)
