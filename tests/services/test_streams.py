"""Authentication.VerifyStream through the door: matching, bounds, errors of one request and of the stream, its end."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from cluster.services import limits
from cluster.services.ports import Cause, QueueFull, Unavailable
from factors.otp import Algorithm, Otp, code_at, step_at
from tests.services.certificates import Authority, client_uri
from tests.services.direct_node import START_MS
from tests.services.door import Door, field_of, open_door, reason_of
from tests.services.stream_client import RawHttp2, Stream, requests
from tests.services.stream_node import NodeWithStreams, until
from watchword.v1 import administration_pb2, administration_pb2_grpc, authentication_pb2_grpc
from watchword.v1.authentication_pb2 import DECISION_ACCEPT, DECISION_REJECT, VerifyBatch, VerifyResult

METHOD = "/watchword.v1.Authentication/VerifyStream"
SECRET = b"12345678901234567890"
CODE = code_at(Otp(SECRET, Algorithm.SHA1, 6), step_at(START_MS, 30))


@pytest.fixture
async def node() -> NodeWithStreams:
    return NodeWithStreams()


@pytest.fixture
async def door(authority: Authority, node: NodeWithStreams) -> AsyncIterator[Door]:
    async with open_door(authority, node.roles_of, node.services) as opened:
        yield opened


@pytest.fixture
async def token_id(door: Door) -> str:
    """Of the user `alice`."""
    stub = administration_pb2_grpc.AdministrationStub(door.channel("operator"))
    await stub.AddUser(administration_pb2.AddUserRequest(request_id="add-user", user_id="alice"))
    answer = await stub.AddToken(
        administration_pb2.AddTokenRequest(
            request_id="add-token", user_id="alice", type=administration_pb2.TOKEN_TYPE_TOTP, secret=SECRET
        )
    )
    return str(answer.token_id)


# Answers


async def test_each_request_has_its_answer(door: Door, token_id: str) -> None:
    stream = Stream(door)
    await stream.send([*requests("right", passcode=CODE), *requests("wrong"), *requests("nobody", user_id="bob")])
    answers = await stream.results(3)
    assert answers["right"].response.decision == DECISION_ACCEPT
    assert answers["right"].response.token_id == token_id
    assert answers["wrong"].response.decision == DECISION_REJECT
    assert answers["nobody"].response == answers["wrong"].response, "a front end can't tell rejections apart"
    assert await stream.end() is grpc.StatusCode.OK


async def test_many_messages_of_many_requests(door: Door, node: NodeWithStreams) -> None:
    stream = Stream(door)
    for batch in range(20):
        await stream.send(requests(*(f"{batch}-{number}" for number in range(25))))
    answers = await stream.results(500)
    assert set(answers) == {f"{batch}-{number}" for batch in range(20) for number in range(25)}
    assert await stream.end() is grpc.StatusCode.OK
    await until(lambda: node.streams.open == 0)


async def test_what_is_applied_together_is_answered_in_one_message(door: Door) -> None:
    stream = Stream(door)
    await stream.send(requests(*(f"r-{number}" for number in range(50))))
    assert len(await stream.message()) == 50
    stream.cancel()


async def test_an_operator_is_told_why_and_a_retry_gets_the_first_answer(door: Door, token_id: str) -> None:
    stream = Stream(door, "everything")
    first = requests("1", passcode=CODE)
    await stream.send(first)
    accepted = await stream.results(1)
    await stream.send(first)
    assert await stream.results(1) == accepted
    again = Stream(door, "everything")
    await again.send([*first, *requests("2", passcode=CODE)])
    answers = await again.results(2)
    assert answers["1"] == accepted["1"], "through another stream too"
    assert answers["2"].response.decision == DECISION_REJECT
    assert answers["2"].response.reason != 0


async def test_one_id_twice_in_a_message(door: Door, token_id: str) -> None:
    """The same request: the same answer, counted once. Another request: an error, and nothing is changed."""
    stream = Stream(door)
    await stream.send([*requests("a", passcode=CODE), *requests("a", passcode=CODE), *requests("a", passcode="000000")])
    found: list[VerifyResult] = []
    while len(found) < 3:
        found += await stream.message()
    assert [each.WhichOneof("outcome") for each in found] == ["response", "response", "error"]
    assert found[0] == found[1]
    assert found[0].response.decision == DECISION_ACCEPT
    assert found[2].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert await stream.end() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"request_id": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"request_id": "x" * 65}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"request_id": "not visible"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"user_id": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"user_id": "ali\x00ce"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"passcode": "1" * 10_000}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"token_id": "a\nb"}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_is_wrong_with_one_request_is_in_its_result(
    door: Door, token_id: str, fields: dict[str, str], code: grpc.StatusCode
) -> None:
    stream = Stream(door)
    await stream.send([*requests("good", passcode=CODE), *requests("bad", **fields)])
    answers = await stream.results(2)
    assert answers.pop("good").response.decision == DECISION_ACCEPT
    (bad,) = answers.values()
    assert bad.request_id == fields.get("request_id", "bad")
    assert bad.error.code == code.value[0]
    assert bad.error.details, "with the details that Verify would give"
    assert await stream.end() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unavailable(Cause.NO_QUORUM), grpc.StatusCode.UNAVAILABLE),
        (Unavailable(Cause.OUT_OF_SERVICE), grpc.StatusCode.UNAVAILABLE),
        (QueueFull(), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_no_answer_is_an_error_of_the_request(
    door: Door, node: NodeWithStreams, error: Exception, code: grpc.StatusCode
) -> None:
    def refuse() -> None:
        raise error

    node.before = refuse
    stream = Stream(door)
    await stream.send(requests("1"))
    assert (await stream.results(1))["1"].error.code == code.value[0]
    node.before = lambda: None
    await stream.send(requests("2"))
    assert (await stream.results(1))["2"].response.decision == DECISION_REJECT
    stream.cancel()


async def test_no_answer_in_time_is_an_error_of_the_request(door: Door, node: NodeWithStreams) -> None:
    node.hold = True
    stream = Stream(door)
    await stream.send(requests("1"))
    await until(lambda: len(node.held) == 1)
    ((_, answer),) = node.held
    answer(Unavailable(Cause.DEADLINE))
    assert (await stream.results(1))["1"].error.code == grpc.StatusCode.UNAVAILABLE.value[0]
    stream.cancel()


async def test_each_request_has_the_time_that_its_message_says(door: Door, node: NodeWithStreams) -> None:
    stream = Stream(door)
    await stream.send(requests("1"))
    await stream.send(requests("2"), timeout_ms=3_000)
    await stream.send(requests("3"), timeout_ms=30_000)
    await stream.results(3)
    default, short, long = node.timeouts
    assert limits.DEADLINE_S_DEFAULT - 0.5 < default < limits.DEADLINE_S_DEFAULT
    assert 2.5 < short < 3
    assert 29 < long < 30
    stream.cancel()


async def test_single_calls_and_streams_share_request_ids(door: Door, token_id: str) -> None:
    (request,) = requests("same", passcode=CODE)
    single = await authentication_pb2_grpc.AuthenticationStub(door.channel("frontend")).Verify(request)
    stream = Stream(door)
    await stream.send([request])
    assert (await stream.results(1))["same"].response == single
    stream.cancel()


# Messages that are not as they must be


@pytest.mark.parametrize(
    ("batch", "field"),
    [
        (VerifyBatch(requests=requests("1"), timeout_ms=30_001), "timeout_ms"),
        (VerifyBatch(requests=requests(*(str(n) for n in range(limits.BATCH_REQUESTS_MAX + 1)))), "requests"),
    ],
)
async def test_a_message_out_of_bounds_ends_the_stream_and_begins_nothing(
    door: Door, node: NodeWithStreams, batch: VerifyBatch, field: str
) -> None:
    stream = Stream(door)
    node.hold = True
    await stream.send(requests("before"))
    await stream.call.write(batch)
    await until(lambda: len(node.held) == 1)
    node.let_go()
    assert set(await stream.results(1)) == {"before"}, "what was taken before is answered"
    error = await stream.error()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == field
    assert len(node.timeouts) == 1


async def test_a_message_without_requests_is_nothing(door: Door) -> None:
    stream = Stream(door)
    await stream.send([])
    await stream.send(requests("1"))
    assert set(await stream.results(1)) == {"1"}
    assert await stream.end() is grpc.StatusCode.OK


@pytest.mark.parametrize("data", [b"\x0a\xff\xff", VerifyBatch(requests=requests("1", "2")).SerializeToString()[:-3]])
async def test_what_is_no_message_ends_the_stream(door: Door, data: bytes) -> None:
    call = door.channel("frontend").stream_stream(METHOD)()
    await call.write(data)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(raised.value) == "MALFORMED_MESSAGE"


@pytest.mark.parametrize("last", [True, False])
async def test_half_a_message_on_the_wire(
    door: Door, node: NodeWithStreams, authority: Authority, tmp_path: Path, last: bool
) -> None:
    """The connection breaks off, or the call ends, within a message: nothing of it is taken."""
    leaf = authority.leaf(client_uri("frontend"))
    raw = await RawHttp2.connect(authority, leaf, door.address, tmp_path)
    data = VerifyBatch(requests=requests("1", "2")).SerializeToString()
    await raw.begin(METHOD, door.address)
    await until(lambda: node.streams.open == 1)
    await raw.send(b"\0" + len(data).to_bytes(4, "big") + data[: len(data) // 2], last=last)
    if last:
        await raw.received()
    await raw.close()
    await until(lambda: node.streams.open == 0)
    assert node.timeouts == []
    stream = Stream(door)
    await stream.send(requests("3"))
    assert set(await stream.results(1)) == {"3"}
    stream.cancel()


async def test_a_message_that_is_too_large_is_not_read(door: Door) -> None:
    stream = Stream(door)
    await stream.call.write(VerifyBatch(requests=requests("1", passcode="1" * limits.MESSAGE_RECEIVED_BYTES_MAX)))
    assert (await stream.error()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
