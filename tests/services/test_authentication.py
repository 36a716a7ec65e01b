"""Authentication.Verify through the door: decisions, who is told why, request ids, and what bad input gets."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from grpc import aio

from cluster.services import limits
from cluster.services.authentication import verify_response
from cluster.services.ports import Cause, QueueFull, Unavailable
from cluster.services.refusals import refusal
from cluster.state.results import Code, Decision, Reason, Result
from factors.otp import Algorithm, Otp, code_at, step_at
from tests.services.direct_node import START_MS, DirectNode, first_state
from tests.services.door import Door, details_of, field_of, reason_of
from watchword.v1 import administration_pb2, administration_pb2_grpc, authentication_pb2, authentication_pb2_grpc
from watchword.v1.authentication_pb2 import DECISION_ACCEPT, DECISION_REJECT, ClientInfo, VerifyRequest, VerifyResponse

SECRET = b"12345678901234567890"
CODE = code_at(Otp(SECRET, Algorithm.SHA1, 6), step_at(START_MS, 30))
WRONG = f"{(int(CODE) + 500_000) % 1_000_000:06d}"


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


async def verify(door: Door, name: str = "frontend", **fields: Any) -> VerifyResponse:
    request = VerifyRequest(**{"request_id": "verify", "user_id": "alice", "passcode": CODE, **fields})
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel(name))
    answer: VerifyResponse = await stub.Verify(request, timeout=20)
    return answer


async def error_of(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_a_right_code_is_accepted_once(door: Door, token_id: str) -> None:
    accepted = await verify(door, request_id="first")
    assert accepted == VerifyResponse(decision=DECISION_ACCEPT, token_id=token_id)
    again = await verify(door, request_id="second")
    assert again == VerifyResponse(decision=DECISION_REJECT, advice=authentication_pb2.ADVICE_TRY_AGAIN)


async def test_a_front_end_can_not_tell_rejections_apart(door: Door, node: DirectNode, token_id: str) -> None:
    await verify(door, request_id="uses-the-code")
    rejections = [
        await verify(door, request_id="replayed"),
        await verify(door, request_id="wrong", passcode=WRONG),
        await verify(door, request_id="unknown", user_id="nobody"),
        await verify(door, request_id="no-token", token_id="another"),
        await verify(door, request_id="no-code", passcode="hunter2 \x00"),
    ]
    assert {answer.SerializeToString() for answer in rejections} == {rejections[0].SerializeToString()}
    assert rejections[0].reason == authentication_pb2.REASON_UNSPECIFIED
    assert not rejections[0].token_id


async def test_an_operator_is_told_why(door: Door, token_id: str) -> None:
    async def reason(request_id: str, **fields: Any) -> str:
        answer = await verify(door, "everything", request_id=request_id, **fields)
        return authentication_pb2.Reason.Name(answer.reason)

    assert await reason("1") == "REASON_ACCEPTED"
    assert await reason("2") == "REASON_REPLAYED"
    assert await reason("3", passcode=WRONG) == "REASON_WRONG"
    assert await reason("4", user_id="nobody") == "REASON_UNKNOWN_USER"
    assert await reason("5", token_id="another") == "REASON_NO_TOKEN"


async def test_the_name_is_one_however_it_is_written(door: Door, token_id: str) -> None:
    answer = await verify(door, user_id="ALICE")
    assert answer.decision == DECISION_ACCEPT


async def test_spaces_in_a_code_do_not_matter(door: Door, token_id: str) -> None:
    assert (await verify(door, request_id="1", passcode=f"{CODE[:3]} {CODE[3:]}")).decision == DECISION_ACCEPT
    assert (await verify(door, request_id="2")).decision == DECISION_REJECT


async def test_one_request_id_has_one_answer(door: Door, node: DirectNode, token_id: str) -> None:
    answers = await asyncio.gather(*(verify(door, request_id="same") for _ in range(60)))
    assert {answer.SerializeToString() for answer in answers} == {answers[0].SerializeToString()}
    assert answers[0].decision == DECISION_ACCEPT
    # A retry in another spelling of the name is the same request.
    assert (await verify(door, request_id="same", user_id="ALICE")).decision == DECISION_ACCEPT


async def test_sixty_callers_with_one_code(door: Door, token_id: str) -> None:
    answers = await asyncio.gather(*(verify(door, request_id=f"caller-{number}") for number in range(60)))
    assert sum(answer.decision == DECISION_ACCEPT for answer in answers) == 1


async def test_a_request_id_with_other_contents(door: Door, token_id: str) -> None:
    await verify(door, request_id="same")
    error = await error_of(verify(door, request_id="same", passcode=WRONG))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (field_of(error), reason_of(error)) == ("request_id", "REQUEST_ID_REUSED")


async def test_request_ids_belong_to_their_client(door: Door, token_id: str) -> None:
    assert (await verify(door, request_id="same")).decision == DECISION_ACCEPT
    assert (await verify(door, "everything", request_id="same", passcode=WRONG)).decision == DECISION_REJECT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("request_id", ""),
        ("request_id", "x" * 65),
        ("request_id", "not visible"),
        ("request_id", "smile\U0001f600"),
        ("user_id", ""),
        ("user_id", "ali\x00ce"),
        ("user_id", "a" * 257),
        ("passcode", ""),
        ("passcode", "1" * 10_000),
        ("token_id", ""),
        ("token_id", "x" * 65),
        ("token_id", "a\nb"),
        ("client.application", "x" * 129),
        ("client.application", "a\x1b[2J"),
        ("client.address", "1" * 65),
    ],
)
async def test_bad_fields_are_named_and_not_quoted(door: Door, node: DirectNode, field: str, value: str) -> None:
    client, _, part = field.partition(".")
    error = await error_of(verify(door, **({client: ClientInfo(**{part: value})} if part else {field: value})))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == field
    assert not value or value not in str(error)
    assert node.timeouts == [], "what is refused at the door is not proposed"


async def test_emoji_in_a_name(door: Door) -> None:
    assert (await verify(door, user_id="\U0001f600")).decision == DECISION_REJECT


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Cause.NO_QUORUM, "NO_QUORUM"),
        (Cause.DEADLINE, "OUTCOME_UNKNOWN"),
        (Cause.STOPPED, "STOPPING"),
        (Cause.OUT_OF_SERVICE, "OUT_OF_SERVICE"),
    ],
)
async def test_no_answer_is_unavailable_with_retry_information(
    door: Door, node: DirectNode, cause: Cause, reason: str
) -> None:
    def refuse() -> None:
        raise Unavailable(cause)

    node.before = refuse
    error = await error_of(verify(door))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == reason
    assert details_of(error)["RetryInfo"].retry_delay.ToMilliseconds() > 0


async def test_a_full_queue_is_resource_exhausted(door: Door, node: DirectNode) -> None:
    def refuse() -> None:
        raise QueueFull

    node.before = refuse
    error = await error_of(verify(door))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == "QUEUE_FULL"
    assert "RetryInfo" in details_of(error)


async def test_the_node_gets_less_time_than_the_caller_has(door: Door, node: DirectNode) -> None:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    request = VerifyRequest(request_id="1", user_id="alice", passcode=CODE)
    await stub.Verify(request, timeout=20)
    await stub.Verify(request)
    await stub.Verify(request, timeout=3_600)
    with_deadline, default, longest = node.timeouts
    assert with_deadline < 20
    assert limits.DEADLINE_S_DEFAULT - 1 < default <= limits.DEADLINE_S_DEFAULT
    assert longest < limits.DEADLINE_S_MAX


async def test_apply_looks_at_the_roles_again(door: Door, node: DirectNode) -> None:
    """The role is taken away between the door and apply."""

    def revoke() -> None:
        node.state = first_state(roles={})

    node.before = revoke
    error = await error_of(verify(door))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(error) == "NOT_ALLOWED"


@pytest.mark.parametrize("code", sorted(set(Code) - {Code.OK}))
@pytest.mark.parametrize("field", ["", "user_id", "token_id", "secret", "code", "token_status", "tokens_per_user"])
def test_every_answer_of_the_state_has_a_status(code: Code, field: str) -> None:
    error = refusal(Result(code, field=field))
    assert error is not None
    assert error.status_bytes()
    if code in {Code.CORRUPT, Code.INTERNAL}:
        assert error.code is grpc.StatusCode.INTERNAL


def test_what_is_done_is_no_refusal() -> None:
    assert refusal(Result(Code.OK)) is None


@pytest.mark.parametrize("reason", list(Reason))
def test_only_an_acceptance_is_told_as_one(reason: Reason) -> None:
    """Also for a reason that says nothing: whatever is not accepted is rejected."""
    answer = verify_response(Result(Code.OK, reason, "t"), reasons=True)
    assert (answer.decision == DECISION_ACCEPT) == (reason in {Reason.ACCEPTED, Reason.PIN_DUE})
    assert answer.reason == reason


def test_the_numbers_are_those_of_the_contract() -> None:
    def names(kind: Any, prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): number for name, number in kind.items() if number}

    assert names(authentication_pb2.Decision, "DECISION_") == {d.name: d for d in Decision if d}
    assert names(authentication_pb2.Reason, "REASON_") == {r.name: r for r in Reason if r}
