"""PINs through the door: two factors, one answer, the same work for everybody, and what bad input gets."""

import asyncio
from collections.abc import Awaitable, Iterator
from typing import Any

import grpc
import msgspec
import pytest
from grpc import aio

from cluster.services import hashing, sign_ins
from cluster.services.hashing import HashPool
from cluster.services.status import CallError
from cluster.state import codec, reads
from cluster.state.commands import Verify, VerifyPin
from cluster.state.records import OathPin, PinHash, Settings
from cluster.state.results import Code, Result
from factors.otp import Algorithm, Otp, code_at
from factors.passcode import Split
from factors.pin import Cost
from tests.services.direct_node import DirectNode, first_state
from tests.services.door import Door, details_of, field_of, reason_of
from tests.services.stream_client import Stream
from watchword.v1 import administration_pb2, administration_pb2_grpc, authentication_pb2_grpc, codes_pb2, settings_pb2
from watchword.v1.authentication_pb2 import (
    ADVICE_CHANGE_PIN,
    ADVICE_TRY_AGAIN,
    ADVICE_UNSPECIFIED,
    DECISION_ACCEPT,
    DECISION_REJECT,
    ChangePinRequest,
    ChangePinResponse,
    VerifyRequest,
    VerifyResponse,
)

SECRET = b"12345678901234567890"
PIN = "2468"
CHEAP = Cost(memory_kib=8, passes=1, lanes=1)


def code(counter: int) -> str:
    return code_at(Otp(SECRET, Algorithm.SHA1, 6), counter)


@pytest.fixture(autouse=True)
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is hashed, at a price that tests can pay."""
    seen: list[str] = []
    plain = hashing.pins.hash_pin

    def counted(pin: str, salt: bytes, cost: Cost = CHEAP) -> bytes:
        seen.append(pin)
        return plain(pin, salt, cost)

    monkeypatch.setattr(hashing.pins, "COST", CHEAP)
    monkeypatch.setattr(hashing.pins, "hash_pin", counted)
    monkeypatch.setattr(hashing, "_NO_PIN", PinHash(bytes(16), bytes(32), *CHEAP))
    return seen


@pytest.fixture
def node() -> Iterator[DirectNode]:
    made = DirectNode(first_state(settings=Settings(oath_pin=OathPin.REQUIRED)))
    yield made
    made.hashes.close()


@pytest.fixture
async def alice(door: Door) -> str:
    """With an HOTP token and the PIN; returns the token's id."""
    stub = administration_pb2_grpc.AdministrationStub(door.channel("operator"))
    await stub.AddUser(administration_pb2.AddUserRequest(request_id="add-user", user_id="alice"))
    added = await stub.AddToken(
        administration_pb2.AddTokenRequest(
            request_id="add-token", user_id="alice", type=administration_pb2.TOKEN_TYPE_HOTP, secret=SECRET
        )
    )
    await set_pin(door, PIN)
    return str(added.token_id)


async def set_pin(door: Door, pin: str, request_id: str = "set-pin", **fields: Any) -> None:
    stub = administration_pb2_grpc.AdministrationStub(door.channel("operator"))
    asked = {"request_id": request_id, "user_id": "alice", "pin": pin, **fields}
    await stub.SetPin(codes_pb2.SetPinRequest(**asked), timeout=20)


async def verify(door: Door, passcode: str, request_id: str, name: str = "frontend", **fields: Any) -> VerifyResponse:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel(name))
    asked = {"request_id": request_id, "user_id": "alice", "passcode": passcode, **fields}
    answer: VerifyResponse = await stub.Verify(VerifyRequest(**asked), timeout=20)
    return answer


async def change(
    door: Door, old: str, typed: str, new: str, request_id: str, name: str = "frontend"
) -> ChangePinResponse:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel(name))
    request = ChangePinRequest(request_id=request_id, user_id="alice", old_pin=old, code=typed, new_pin=new)
    answer: ChangePinResponse = await stub.ChangePin(request, timeout=20)
    return answer


async def error_of(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_pin_and_code_let_in_and_neither_alone_does(door: Door, alice: str) -> None:
    assert (await verify(door, PIN + code(0), "1")).decision == DECISION_ACCEPT
    assert (await verify(door, code(1), "2")).decision == DECISION_REJECT
    assert (await verify(door, PIN, "3")).decision == DECISION_REJECT
    assert (await verify(door, f"24-68 {code(1)}", "4")) == VerifyResponse(decision=DECISION_ACCEPT, token_id=alice)


async def test_a_front_end_can_not_tell_a_wrong_pin_from_a_wrong_code(door: Door, alice: str) -> None:
    rejections = [
        await verify(door, "1357" + code(0), "1"),
        await verify(door, PIN + code(40), "2"),
        await verify(door, PIN + code(0), "3", user_id="nobody"),
    ]
    assert {answer.SerializeToString() for answer in rejections} == {rejections[0].SerializeToString()}
    assert rejections[0] == VerifyResponse(decision=DECISION_REJECT, advice=ADVICE_TRY_AGAIN)


@pytest.mark.parametrize(
    "fields",
    [
        {"passcode": PIN + code(0)},
        {"passcode": "1357" + code(0)},
        {"passcode": code(0)},
        {"passcode": "x"},
        {"passcode": PIN + "ABCD2345"},
        {"passcode": PIN + code(0), "user_id": "nobody"},
        {"passcode": PIN + code(0), "user_id": "without"},
        {"passcode": PIN + code(0), "token_id": "another"},
    ],
)
async def test_every_attempt_costs_one_hash(door: Door, alice: str, hashes: list[str], fields: dict[str, str]) -> None:
    stub = administration_pb2_grpc.AdministrationStub(door.channel("operator"))
    await stub.AddUser(administration_pb2.AddUserRequest(request_id="without", user_id="without"))
    hashes.clear()
    await verify(door, request_id="r", **fields)
    assert len(hashes) == 1


async def test_the_log_holds_no_pin(door: Door, node: DirectNode, alice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []
    propose = node.propose

    async def watched(command: bytes, timeout_s: float) -> Result:
        seen.append(command)
        return await propose(command, timeout_s)

    monkeypatch.setattr(node, "propose", watched)
    await set_pin(door, "97539753", "set")
    await verify(door, "97539753" + code(0), "1")
    await verify(door, "97539753" + code(50), "2")
    await verify(door, "97539753", "3")
    await verify(door, "9753975397539753", "4")
    await change(door, "97539753", code(1), "86428642", "5")
    await change(door, "97539753", code(2), "86428642", "6")
    assert len(seen) == 7
    for command in seen:
        for part in (b"97539753", b"753975", b"86428642", b"864286"):
            assert part not in command


async def test_without_pins_what_is_longer_than_a_code_is_not_in_the_log_either() -> None:
    typed = Verify("alice", PIN + code(0))
    assert sign_ins.without_pin(typed).passcode == ""
    assert sign_ins.without_pin(Verify("alice", "1234 5678")).passcode == "1234 5678"


async def test_a_retry_is_the_first_answer_and_not_a_guess(door: Door, alice: str) -> None:
    first = await verify(door, PIN + code(0), "1")
    assert await verify(door, PIN + code(0), "1") == first
    error = await error_of(verify(door, "1357" + code(0), "1"))
    assert reason_of(error) == "REQUEST_ID_REUSED"
    rejected = await verify(door, "1357" + code(1), "2")
    assert await verify(door, PIN + code(1), "2") == rejected
    assert (await verify(door, PIN + code(1), "3")).decision == DECISION_ACCEPT


async def test_a_retry_after_the_pin_was_changed_is_known_again(door: Door, alice: str) -> None:
    first = await verify(door, PIN + code(0), "1")
    await set_pin(door, "9753", "set")
    assert await verify(door, PIN + code(0), "1") == first
    assert reason_of(await error_of(verify(door, "1357" + code(0), "1"))) == "REQUEST_ID_REUSED"


async def test_a_change_that_is_retried_is_the_first_answer(door: Door, node: DirectNode, alice: str) -> None:
    """By then the old PIN is not the PIN any more, and the new one was used before."""
    first = await change(door, PIN, code(0), "9753", "1")
    assert first == ChangePinResponse(decision=DECISION_ACCEPT)
    assert await change(door, PIN, code(0), "9753", "1") == first
    view = reads.get_user(node.state, "alice", 0)
    assert view is not None
    assert view.failures == 0
    assert (await verify(door, "9753" + code(1), "2")).decision == DECISION_ACCEPT


async def test_a_pin_that_is_due_is_advised_and_changed(door: Door, alice: str) -> None:
    await set_pin(door, "9753", "set", must_change=True)
    due = await verify(door, "9753" + code(0), "1")
    assert (due.decision, due.advice) == (DECISION_ACCEPT, ADVICE_CHANGE_PIN)
    assert (await verify(door, "1357" + code(1), "2")).advice == ADVICE_TRY_AGAIN
    assert (await change(door, "9753", code(1), "8642", "3")).decision == DECISION_ACCEPT
    assert (await verify(door, "8642" + code(2), "4")).advice == ADVICE_UNSPECIFIED


async def test_a_change_counts_failures_as_an_attempt_does(door: Door, alice: str) -> None:
    for number in range(5):
        answer = await change(door, f"97{number}5", code(0), "8642", f"{number}")
        assert answer == ChangePinResponse(decision=DECISION_REJECT, advice=ADVICE_TRY_AGAIN)
    assert (await verify(door, PIN + code(0), "locked")).decision == DECISION_REJECT
    assert (await change(door, PIN, code(0), "8642", "locked-too")).decision == DECISION_REJECT


async def test_a_change_takes_as_long_whatever_was_wrong(door: Door, alice: str, hashes: list[str]) -> None:
    counts = set()
    for number, (old, typed) in enumerate([("1357", code(0)), (PIN, code(30)), ("x", "y"), (PIN, code(0))]):
        hashes.clear()
        await change(door, old, typed, "8642", f"{number}")
        counts.add(len(hashes))
    assert counts == {7}, "the old one, five before it, and the new one"


async def test_a_pin_of_before_is_refused_to_who_has_it_and_spends_nothing(door: Door, alice: str) -> None:
    error = await error_of(change(door, PIN, code(0), PIN, "1"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == "PIN_USED_BEFORE"
    assert (await change(door, "1357", code(0), PIN, "2")).decision == DECISION_REJECT
    assert (await change(door, PIN, code(0), "9753", "3")).decision == DECISION_ACCEPT
    assert reason_of(await error_of(change(door, "9753", code(1), PIN, "4"))) == "PIN_USED_BEFORE"
    assert reason_of(await error_of(set_pin(door, PIN, "5"))) == "PIN_USED_BEFORE"


@pytest.mark.parametrize(
    "pin", ["", "    ", " - - ", "123", "1" * 17, "12a4", "١٣٥٧", "1113", "1234", "4321", "1" * 129]
)
async def test_a_pin_that_breaks_a_rule_is_refused_by_name(
    door: Door, node: DirectNode, alice: str, hashes: list[str], pin: str
) -> None:
    hashes.clear()
    before = list(node.state.records())
    for field, call in (("pin", set_pin(door, pin, "1")), ("new_pin", change(door, PIN, code(0), pin, "2"))):
        error = await error_of(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert field_of(error) == field
        assert not pin.strip(" -") or pin not in str(error)
    assert list(node.state.records()) == before
    assert hashes == []


async def test_a_pin_of_ten_megabytes_gets_no_further_than_the_transport(
    door: Door, node: DirectNode, alice: str, hashes: list[str]
) -> None:
    hashes.clear()
    error = await error_of(set_pin(door, "7" * 10_000_000, "1"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert hashes == []


async def test_a_changed_pin_is_looked_at_again(door: Door, node: DirectNode, alice: str) -> None:
    """The record changes between the hash and apply, twice; the third look is answered."""
    sets = iter(["9753", "8642"])

    def meanwhile() -> None:
        pin = next(sets, None)
        if pin is not None:
            record = reads.pin(node.state, "alice")
            assert record is not None
            salt = pin.encode() * 4
            made = PinHash(salt, hashing.pins.hash_pin(pin, salt), *CHEAP)
            node.state._store.commit(
                {("pins", b"alice"): codec._encoder.encode(type(record)(made, 0, False, (record.current,)))}
            )

    node.before = meanwhile
    assert (await verify(door, "8642" + code(0), "1")).decision == DECISION_ACCEPT
    assert len(node.timeouts) == 6, "user, token, PIN, and three looks"


async def test_what_changes_each_time_is_unavailable_and_counts_nothing(
    door: Door, node: DirectNode, alice: str
) -> None:
    before = list(node.state.records())
    node.answer = Result(Code.STALE)
    error = await error_of(verify(door, PIN + code(0), "1"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert reason_of(error) == "CHANGED_MEANWHILE"
    assert list(node.state.records()) == before


async def test_streams_take_pins_too(door: Door, alice: str) -> None:
    stream = Stream(door)
    right = VerifyRequest(request_id="right", user_id="alice", passcode=PIN + code(0))
    wrong = VerifyRequest(request_id="wrong", user_id="alice", passcode="1357" + code(1))
    await stream.send([right, wrong])
    results = await stream.results(2)
    assert await stream.end() is grpc.StatusCode.OK
    assert results["right"].response.decision == DECISION_ACCEPT
    assert results["wrong"].response.decision == DECISION_REJECT


async def test_where_pins_are_not_in_use_none_is_changed(door: Door, node: DirectNode, alice: str) -> None:
    stub = administration_pb2_grpc.AdministrationStub(door.channel("operator"))
    off = settings_pb2.Settings(oath_pin=settings_pb2.OATH_PIN_OFF)
    await stub.SetSettings(settings_pb2.SetSettingsRequest(request_id="off", settings=off))
    error = await error_of(change(door, PIN, code(0), "8642", "1"))
    assert reason_of(error) == "PINS_NOT_IN_USE"
    assert (await verify(door, code(0), "2")).decision == DECISION_ACCEPT


async def test_a_cluster_with_an_older_node_does_not_take_what_that_would_not_know(node: DirectNode) -> None:
    proposals, _ = node.proposals_and_sign_ins()
    older = codec._encoder.encode(msgspec.structs.replace(node.state.identity, command_version=1))
    node.state._store.commit({("identity", b""): older})
    node.state._refresh()
    with pytest.raises(CallError, match="upgrade every node"):
        await proposals.answer(VerifyPin("alice", ()), "r", "client", 1.0)


# The pool


async def test_as_many_hashes_wait_as_may_and_no_more() -> None:
    pool = HashPool(threads=1, waiting_max=3)
    go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()

    try:
        running = [asyncio.create_task(pool.run(wait, 1)), asyncio.create_task(pool.run(wait, 2))]
        await asyncio.sleep(0)
        with pytest.raises(CallError) as refused:
            await pool.run(wait, 1)
        assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        running[1].cancel()  # a caller that is gone takes its work out again
        await asyncio.wait([running[1]])
        while pool.waiting > 1:  # noqa: ASYNC110 - told by another thread
            await asyncio.sleep(0)
        go.set()
        await running[0]
        while pool.waiting:  # noqa: ASYNC110 - told by another thread
            await asyncio.sleep(0)
        assert await pool.run(lambda: 7, 3) == 7
    finally:
        go.set()
        pool.close()


async def test_a_full_pool_is_resource_exhausted(door: Door, node: DirectNode, alice: str) -> None:
    node.hashes.waiting = 10_000
    error = await error_of(verify(door, PIN + code(0), "1"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(error) == "QUEUE_FULL"
    assert "RetryInfo" in details_of(error)
    node.hashes.waiting = 0
    assert (await verify(door, PIN + code(0), "1")).decision == DECISION_ACCEPT


def test_every_part_that_could_be_a_pin_is_hashed_and_one_at_least(hashes: list[str]) -> None:
    kept = hashing.new_hash(PIN, b"s" * 16)
    for parts, expected in (
        ((PIN,), (True,)),
        ((PIN, "246"), (True, False)),
        (("246812", PIN), (False, True)),
        (("", "x"), (False, False)),
    ):
        hashes.clear()
        ways = [Split(part, "123456", 6) for part in parts]
        assert hashing.check_splits(ways, kept) == expected
        assert len(hashes) == hashing.hashes_of(ways) >= 1
        assert hashing.check_splits(ways, None) == (False,) * len(parts)


def test_a_history_is_compared_whole(hashes: list[str]) -> None:
    before = [hashing.new_hash(pin, bytes([place] * 16)) for place, pin in enumerate(("1357", "2468", "9753"))]
    hashes.clear()
    assert hashing.is_among("1357", before, 5)
    assert not hashing.is_among("8642", before, 5)
    assert not hashing.is_among("9753", before, 2)
    assert not hashing.is_among("9753", before, 0)
    assert len(hashes) == 5 + 5 + 2
