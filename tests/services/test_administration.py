"""Administration through the door: users, tokens, fresh reads, retries, and what bad input gets."""

from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import grpc
import pytest
from google.protobuf.message import Message
from grpc import aio

from cluster.services import limits
from cluster.services.paging import decode_page_token, encode_page_token
from cluster.services.ports import Cause, Unavailable
from cluster.services.roles import ALLOWED
from cluster.state.commands import PERMISSIONS
from cluster.state.kinds import Kind
from cluster.state.records import Role, TokenStatus, TokenType
from factors.otp import Algorithm, Otp, code_at, step_at
from factors.secret import parse_base32
from tests.services.certificates import client_uri
from tests.services.direct_node import ROLES, START_MS, DirectNode, first_state
from tests.services.door import Door, details_of, field_of, reason_of
from watchword.v1 import administration_pb2 as messages
from watchword.v1 import administration_pb2_grpc, authentication_pb2, authentication_pb2_grpc

SECRET = b"12345678901234567890"
TOTP = messages.TOKEN_TYPE_TOTP
HOTP = messages.TOKEN_TYPE_HOTP


def hotp_code(counter: int) -> str:
    return code_at(Otp(SECRET, Algorithm.SHA1, 6), counter)


class Administrator:
    """Calls by name, with a new request id each time unless one is given."""

    def __init__(self, door: Door, name: str) -> None:
        self._stub = administration_pb2_grpc.AdministrationStub(door.channel(name))
        self._calls = 0

    async def __call__(self, method: str, **fields: Any) -> Any:
        request: type[Message] = getattr(messages, f"{method}Request")
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            self._calls += 1
            fields.setdefault("request_id", f"request-{self._calls}")
        return await getattr(self._stub, method)(request(**fields), timeout=20)


@pytest.fixture
def operator(door: Door) -> Administrator:
    return Administrator(door, "operator")


async def error_of(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_the_life_of_a_user(operator: Administrator, node: DirectNode) -> None:
    added = await operator("AddUser", user_id="Alice")
    assert added.user.user_id == "alice"
    assert (added.user.state, added.user.created_ms) == (messages.USER_STATE_ENABLED, START_MS)
    await operator("DisableUser", user_id="ALICE")
    assert (await operator("GetUser", user_id="alice")).user.state == messages.USER_STATE_DISABLED
    await operator("DisableUser", user_id="alice")
    await operator("EnableUser", user_id="alice")
    assert (await operator("GetUser", user_id="alice")).user.state == messages.USER_STATE_ENABLED
    await operator("DeleteUser", user_id="alice")
    error = await error_of(operator("GetUser", user_id="alice"))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_name_is_taken_in_every_spelling(operator: Administrator) -> None:
    await operator("AddUser", user_id="Straße")
    error = await error_of(operator("AddUser", user_id="STRASSE"))
    assert error.code() is grpc.StatusCode.ALREADY_EXISTS
    assert details_of(error)["ResourceInfo"].resource_type == "watchword.v1.User"
    assert "strasse" not in str(details_of(error)), "a name is not told"


async def test_a_retry_is_not_told_that_the_user_exists(operator: Administrator) -> None:
    first = await operator("AddUser", user_id="alice", request_id="same")
    assert await operator("AddUser", user_id="alice", request_id="same") == first
    error = await error_of(operator("AddUser", user_id="bob", request_id="same"))
    assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "request_id")
    await operator("DeleteUser", user_id="alice")
    assert not (await operator("AddUser", user_id="alice", request_id="same")).HasField("user")


async def test_lockout_and_attempts_are_shown_and_cleared(
    door: Door, node: DirectNode, operator: Administrator
) -> None:
    await operator("AddUser", user_id="alice")
    token_id = (await operator("AddToken", user_id="alice", type=HOTP, secret=SECRET)).token_id
    authentication = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))

    async def attempt(number: int, passcode: str) -> None:
        node.now_ms += 1_000
        await authentication.Verify(
            authentication_pb2.VerifyRequest(
                request_id=f"attempt-{number}",
                user_id="alice",
                passcode=passcode,
                client=authentication_pb2.ClientInfo(application="vpn", address="192.0.2.7"),
            )
        )

    await attempt(0, hotp_code(0))
    for number in range(1, 5):
        await attempt(number, hotp_code(0))
    shown = await operator("GetUser", user_id="alice")
    assert shown.user.lockout == messages.Lockout(failures=4)
    await attempt(5, hotp_code(0))
    await attempt(6, hotp_code(1))
    shown = await operator("GetUser", user_id="alice")
    assert shown.user.lockout.locked
    assert shown.user.lockout.locked_until_ms > node.now_ms
    reasons = [authentication_pb2.Reason.Name(each.reason) for each in shown.attempts]
    assert reasons == ["REASON_LOCKED", *["REASON_REPLAYED"] * 5, "REASON_ACCEPTED"]
    newest, oldest = shown.attempts[0], shown.attempts[-1]
    assert newest.at_ms > oldest.at_ms
    assert oldest.decision == authentication_pb2.DECISION_ACCEPT
    assert (oldest.token_id, oldest.client_identity) == (token_id, client_uri("frontend"))
    assert (oldest.client.application, oldest.client.address) == ("vpn", "192.0.2.7")
    assert shown.tokens[0].last_used_ms == oldest.at_ms
    for _ in range(2):
        await operator("UnlockUser", user_id="alice")
        assert (await operator("GetUser", user_id="alice")).user.lockout == messages.Lockout()


async def test_a_lockout_that_is_over_is_not_shown_though_nothing_was_logged(
    door: Door, node: DirectNode, operator: Administrator
) -> None:
    await operator("AddUser", user_id="alice")
    await operator("AddToken", user_id="alice", type=HOTP, secret=SECRET)
    authentication = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    for number in range(5):
        await authentication.Verify(
            authentication_pb2.VerifyRequest(request_id=f"{number}", user_id="alice", passcode="000000")
        )
    assert (await operator("GetUser", user_id="alice")).user.lockout.locked
    node.now_ms += 15 * 60 * 1000 + 1
    assert not (await operator("GetUser", user_id="alice")).user.lockout.locked


async def test_users_in_pages(operator: Administrator) -> None:
    names = [f"user-{number:02d}" for number in range(7)]
    for name in (*names, "another"):
        await operator("AddUser", user_id=name)
    await operator("DisableUser", user_id="user-03")
    seen: list[list[str]] = []
    token = ""
    while not seen or token:
        page = await operator("ListUsers", page_size=3, page_token=token, prefix="USER-")
        seen.append([user.user_id for user in page.users])
        token = page.next_page_token
    assert seen == [names[0:3], names[3:6], names[6:7]]
    disabled = await operator("ListUsers", state=messages.USER_STATE_DISABLED)
    assert [user.user_id for user in disabled.users] == ["user-03"]
    assert len((await operator("ListUsers", state=messages.USER_STATE_ENABLED)).users) == 7
    assert len((await operator("ListUsers", locked=True)).users) == 0
    assert len((await operator("ListUsers", locked=False)).users) == 8
    assert len((await operator("ListUsers")).users) == 8


@pytest.mark.parametrize("name", ["a", "\U0001f600", "x" * 256, "李" * 85])
def test_page_tokens_come_back(name: str) -> None:
    token = encode_page_token(name)
    assert len(token) <= limits.PAGE_TOKEN_CHARACTERS_MAX
    assert decode_page_token(token) == name


async def test_a_token_with_a_secret_of_the_nodes(operator: Administrator, node: DirectNode) -> None:
    await operator("AddUser", user_id="alice")
    answer = await operator(
        "AddToken", user_id="alice", type=TOTP, algorithm=messages.ALGORITHM_SHA256, digits=8, period=60
    )
    uri = urlsplit(answer.uri)
    query = {key: value[0] for key, value in parse_qs(uri.query).items()}
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Watchword:alice")
    assert {key: query.get(key) for key in ("algorithm", "digits", "period", "issuer")} == {
        "algorithm": "SHA256",
        "digits": "8",
        "period": "60",
        "issuer": "Watchword",
    }
    secret = parse_base32(query["secret"])
    assert len(secret) == 32
    code = code_at(Otp(secret, Algorithm.SHA256, 8), step_at(node.now_ms, 60))
    await operator("DisableToken", token_id=answer.token_id)
    await operator("EnableToken", token_id=answer.token_id)
    assert await accepted(operator, node, code)


async def accepted(operator: Administrator, node: DirectNode, code: str, user_id: str = "alice") -> bool:
    """Whether the code is right, as the state would say."""
    from cluster.state.codec import pack
    from cluster.state.commands import Verify

    command = Verify(user_id=user_id, passcode=code)
    result = await node.propose(pack(command, request_id=f"check-{code}", client=client_uri("frontend")), 1.0)
    return result.decision == 1


async def test_a_retry_of_an_enrolment_gets_the_first_answer(operator: Administrator, node: DirectNode) -> None:
    """The node draws anew, and what it draws goes nowhere; and the token has moved on meanwhile."""
    await operator("AddUser", user_id="alice")
    enrolment = {"user_id": "alice", "type": HOTP, "counter": 5, "request_id": "same"}
    first = await operator("AddToken", **enrolment)
    secret = parse_base32(parse_qs(urlsplit(first.uri).query)["secret"][0])
    assert await accepted(operator, node, code_at(Otp(secret, Algorithm.SHA1, 6), 7))
    assert await operator("AddToken", **enrolment) == first
    assert "counter=5" in first.uri
    assert len((await operator("ListTokens", user_id="alice")).tokens) == 1
    other = await operator("AddToken", user_id="alice", type=HOTP)
    assert other.uri != first.uri
    await operator("DeleteToken", token_id=first.token_id)
    assert reason_of(await error_of(operator("AddToken", **enrolment))) == "NO_SUCH_TOKEN"


async def test_a_pending_token_is_confirmed_by_its_code(operator: Administrator) -> None:
    await operator("AddUser", user_id="alice")
    token_id = (await operator("AddToken", user_id="alice", type=HOTP, secret=SECRET, pending=True)).token_id
    error = await error_of(operator("EnableToken", token_id=token_id))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "TOKEN_STATE")
    error = await error_of(operator("ConfirmToken", token_id=token_id, code="000000"))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "CODE_NOT_ACCEPTED")
    assert details_of(error)["PreconditionFailure"].violations[0].subject == "code"
    await operator("ConfirmToken", token_id=token_id, code=hotp_code(0))
    (token,) = (await operator("ListTokens", user_id="alice")).tokens
    assert (token.token_id, token.state, token.counter) == (token_id, messages.TOKEN_STATE_ACTIVE, 1)
    assert reason_of(await error_of(operator("ConfirmToken", token_id=token_id, code=hotp_code(1)))) == "TOKEN_STATE"


async def test_a_token_is_resynchronised_by_two_codes(operator: Administrator) -> None:
    await operator("AddUser", user_id="alice")
    token_id = (await operator("AddToken", user_id="alice", type=HOTP, secret=SECRET)).token_id
    far = {"token_id": token_id, "first_code": hotp_code(500), "second_code": hotp_code(501)}
    wrong = {**far, "second_code": hotp_code(502)}
    assert reason_of(await error_of(operator("ResyncToken", **wrong))) == "CODE_NOT_ACCEPTED"
    await operator("ResyncToken", **far)
    (token,) = (await operator("ListTokens", user_id="alice")).tokens
    assert token.counter == 502


async def test_limits_of_the_state_are_told(operator: Administrator) -> None:
    await operator("AddUser", user_id="alice")
    await operator("AddToken", user_id="alice", type=TOTP, secret=SECRET)
    error = await error_of(operator("AddToken", user_id="alice", type=HOTP, secret=SECRET))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.ALREADY_EXISTS, "TOKEN_EXISTS")
    for _ in range(9):
        await operator("AddToken", user_id="alice", type=TOTP)
    error = await error_of(operator("AddToken", user_id="alice", type=TOTP))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "LIMIT_REACHED")


@pytest.mark.parametrize("method", ["GetUser", "EnableUser", "DisableUser", "DeleteUser", "UnlockUser", "ListTokens"])
async def test_unknown_users(operator: Administrator, method: str) -> None:
    error = await error_of(operator(method, user_id="nobody"))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_USER")
    assert details_of(error)["ResourceInfo"].resource_type == "watchword.v1.User"
    assert "nobody" not in str(error)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("ConfirmToken", {"code": "123456"}),
        ("ResyncToken", {"first_code": "123456", "second_code": "123457"}),
        ("EnableToken", {}),
        ("DisableToken", {}),
        ("DeleteToken", {}),
    ],
)
async def test_unknown_tokens(operator: Administrator, method: str, fields: dict[str, str]) -> None:
    error = await error_of(operator(method, token_id="unknown", **fields))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "NO_SUCH_TOKEN")


GOOD: dict[str, dict[str, Any]] = {
    "AddUser": {"user_id": "a"},
    "GetUser": {"user_id": "a"},
    "ListUsers": {},
    "AddToken": {"user_id": "a", "type": TOTP},
    "ConfirmToken": {"token_id": "t", "code": "1"},
    "ResyncToken": {"token_id": "t", "first_code": "1", "second_code": "2"},
}


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("AddUser", "request_id", ""),
        ("AddUser", "user_id", "a\x00b"),
        ("GetUser", "user_id", ""),
        ("ListUsers", "page_size", 1_001),
        ("ListUsers", "page_token", "!"),
        ("ListUsers", "page_token", "\U0001f600"),
        ("ListUsers", "page_token", "_w=="),
        ("ListUsers", "page_token", "A" * 4_000),
        ("ListUsers", "prefix", "\x00"),
        ("ListUsers", "prefix", "x" * 257),
        ("ListUsers", "state", 9),
        ("AddToken", "type", 0),
        ("AddToken", "type", 9),
        ("AddToken", "algorithm", 9),
        ("AddToken", "digits", 7),
        ("AddToken", "period", 14),
        ("AddToken", "period", 301),
        ("AddToken", "counter", 0),
        ("AddToken", "secret", b""),
        ("AddToken", "secret", b"x" * 9),
        ("AddToken", "secret", b"x" * 129),
        ("AddToken", "user_id", "x" * 257),
        ("ConfirmToken", "code", ""),
        ("ConfirmToken", "code", "1" * 10_000),
        ("ConfirmToken", "token_id", ""),
        ("ResyncToken", "second_code", ""),
    ],
)
async def test_bad_fields_are_named_and_not_quoted(
    operator: Administrator, node: DirectNode, method: str, field: str, value: Any
) -> None:
    error = await error_of(operator(method, **{**GOOD[method], field: value}))
    assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert len(str(value)) < 3 or str(value) not in str(error)
    assert node.timeouts == []


@pytest.mark.parametrize(("field", "value"), [("period", 30), ("counter", 2**63)])
async def test_bad_fields_of_hotp(operator: Administrator, field: str, value: int) -> None:
    error = await error_of(operator("AddToken", user_id="a", type=HOTP, **{field: value}))
    assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, field)


@pytest.mark.parametrize(
    ("method", "fields"), [("GetUser", GOOD["GetUser"]), ("ListUsers", {}), ("ListTokens", {"user_id": "a"})]
)
async def test_reads_go_through_the_log(
    operator: Administrator, node: DirectNode, method: str, fields: dict[str, Any]
) -> None:
    def refuse() -> None:
        raise Unavailable(Cause.NO_QUORUM)

    node.before = refuse
    assert (await error_of(operator(method, **fields))).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_read_sees_what_the_barrier_brought(operator: Administrator, node: DirectNode) -> None:
    """The node was behind until its barrier was applied."""
    behind, ahead = node.state, first_state()
    node.state = ahead
    await operator("AddUser", user_id="alice")
    node.state = behind

    def catch_up() -> None:
        node.state = ahead

    node.before = catch_up
    assert (await operator("GetUser", user_id="alice")).user.user_id == "alice"


async def test_a_revocation_that_the_barrier_brought_counts(operator: Administrator, node: DirectNode) -> None:
    def revoke() -> None:
        node.state = first_state(roles={**ROLES, "operator": frozenset({Role.FRONTEND})})

    node.before = revoke
    assert (await error_of(operator("ListUsers"))).code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_door_and_the_state_agree_on_who_may_change_what() -> None:
    state = {
        "".join(part.capitalize() for part in Kind(kind).name.split("_")): allowed
        for kind, allowed in PERMISSIONS.items()
        # No RPC asks for them by name: VERIFY_PIN is Verify's where PINs are used, a member is settled by a node.
        if kind not in (Kind.VERIFY_PIN, Kind.ADD_MEMBER, Kind.SETTLE_MEMBER)
    }
    assert PERMISSIONS[Kind.VERIFY_PIN] == PERMISSIONS[Kind.VERIFY]
    door = {method.rpartition("/")[2]: allowed for method, allowed in ALLOWED.items()}
    assert {name: door[name] for name in state} == state


def test_the_numbers_are_those_of_the_contract() -> None:
    def names(kind: Any, prefix: str) -> dict[str, int]:
        return {name.removeprefix(prefix): number for name, number in kind.items() if number}

    assert names(messages.TokenType, "TOKEN_TYPE_") == {kind.name: kind for kind in TokenType}
    assert names(messages.TokenState, "TOKEN_STATE_") == {status.name: status for status in TokenStatus}
    assert names(messages.Algorithm, "ALGORITHM_") == {algorithm.name: algorithm for algorithm in Algorithm}
