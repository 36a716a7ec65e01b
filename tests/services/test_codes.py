"""Recovery codes, bypasses and settings through the door: shown once and again to a retry, and to nobody else."""

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from grpc import aio

from cluster.state.records import SETTINGS_RANGES, Role, Settings
from tests.services.direct_node import ROLES, DirectNode, first_state
from tests.services.door import Door, field_of, reason_of
from watchword.v1 import (
    administration_pb2,
    administration_pb2_grpc,
    authentication_pb2,
    authentication_pb2_grpc,
    codes_pb2,
    settings_pb2,
)
from watchword.v1.settings_pb2 import OATH_PIN_OFF, OATH_PIN_REQUIRED


def administration(door: Door, name: str = "operator") -> Any:
    return administration_pb2_grpc.AdministrationStub(door.channel(name))


@pytest.fixture
async def alice(door: Door) -> str:
    await administration(door).AddUser(administration_pb2.AddUserRequest(request_id="add-user", user_id="alice"))
    return "alice"


async def recovery(door: Door, request_id: str, user: str = "alice", name: str = "operator") -> list[str]:
    request = codes_pb2.IssueRecoveryCodesRequest(request_id=request_id, user_id=user)
    return list((await administration(door, name).IssueRecoveryCodes(request, timeout=20)).codes)


async def bypass(door: Door, request_id: str, name: str = "operator", **fields: Any) -> codes_pb2.IssueBypassResponse:
    asked = {"request_id": request_id, "user_id": "alice", "reason": "ticket 17", **fields}
    answer: codes_pb2.IssueBypassResponse = await administration(door, name).IssueBypass(
        codes_pb2.IssueBypassRequest(**asked), timeout=20
    )
    return answer


async def verify(door: Door, passcode: str, request_id: str) -> tuple[bool, str]:
    stub = authentication_pb2_grpc.AuthenticationStub(door.channel("frontend"))
    request = authentication_pb2.VerifyRequest(request_id=request_id, user_id="alice", passcode=passcode)
    answer = await stub.Verify(request, timeout=20)
    return answer.decision == authentication_pb2.DECISION_ACCEPT, answer.token_id


async def error_of(call: Awaitable[object]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_ten_recovery_codes_that_work_once_each(door: Door, alice: str) -> None:
    codes = await recovery(door, "1")
    assert len(set(codes)) == 10
    assert await verify(door, codes[0].lower(), "v1") == (True, "recovery-code")
    assert await verify(door, codes[0], "v2") == (False, "")
    assert await verify(door, f"{codes[9][:4]} {codes[9][4:]}", "v3") == (True, "recovery-code")
    found = await administration(door).GetUser(administration_pb2.GetUserRequest(user_id="alice"))
    assert found.user.recovery_codes == 8
    assert not any(code in str(found) for code in codes)


async def test_a_retry_gets_the_same_codes_and_a_late_one_says_so(door: Door, node: DirectNode, alice: str) -> None:
    codes = await recovery(door, "1")
    await verify(door, codes[3], "v1")
    assert await recovery(door, "1") == codes
    others = await recovery(door, "2")
    assert set(others).isdisjoint(codes)
    error = await error_of(recovery(door, "1"))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "CODES_REPLACED")
    issued = await bypass(door, "b1")
    assert await bypass(door, "b1") == issued
    assert await verify(door, issued.passcode, "v2") == (True, "bypass")
    assert reason_of(await error_of(bypass(door, "b1"))) == "CODES_REPLACED"


async def test_an_id_that_is_used_again_much_later_gives_other_codes(door: Door, node: DirectNode, alice: str) -> None:
    codes = await recovery(door, "1")
    node.now_ms += 120_000
    assert set(await recovery(door, "1")).isdisjoint(codes)


async def test_a_bypass_works_for_its_time(door: Door, node: DirectNode, alice: str) -> None:
    issued = await bypass(door, "1", seconds=60)
    assert issued.expires_ms == node.now_ms + 60_000
    assert (await bypass(door, "2")).expires_ms == node.now_ms + 300_000
    assert await verify(door, issued.passcode, "v1") == (False, ""), "a second one replaces it"
    last = await bypass(door, "3", seconds=60)
    node.now_ms += 60_000
    assert await verify(door, last.passcode, "v2") == (False, "")


async def test_the_reason_of_a_bypass_stands_beside_the_attempt(door: Door, alice: str) -> None:
    issued = await bypass(door, "1", "helpdesk")
    await verify(door, issued.passcode, "v1")
    found = await administration(door, "auditor").GetUser(administration_pb2.GetUserRequest(user_id="alice"))
    assert [attempt.note for attempt in found.attempts] == ["ticket 17"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reason": ""}, "reason"),
        ({"reason": "  "}, "reason"),
        ({"reason": "x" * 257}, "reason"),
        ({"reason": "a\nb"}, "reason"),
        ({"seconds": 9}, "seconds"),
        ({"seconds": 86_401}, "seconds"),
        ({"user_id": ""}, "user_id"),
    ],
)
async def test_bad_fields_of_a_bypass_are_named(
    door: Door, node: DirectNode, alice: str, fields: dict[str, Any], field: str
) -> None:
    error = await error_of(bypass(door, "1", **fields))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == field


async def test_a_helpdesk_gets_none_for_itself_or_an_operator(door: Door, node: DirectNode) -> None:
    for user in ("helpdesk", "operator@example.org", "alice"):
        request = administration_pb2.AddUserRequest(request_id=user, user_id=user)
        await administration(door).AddUser(request)
    for user in ("helpdesk", "HelpDesk", "operator@example.org"):
        before = len(list(node.state.records()))
        error = await error_of(bypass(door, f"h-{user}", "helpdesk", user_id=user))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "operator" in str(error.details())
        assert len([r for r in node.state.records() if r[0] == "bypasses"]) == 0, before
    assert (await bypass(door, "ok", "helpdesk")).passcode
    assert (await bypass(door, "ok-too", "operator", user_id="helpdesk")).passcode


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OPERATOR])
async def test_what_only_an_operator_may_is_refused_to_others_and_changes_nothing(
    door: Door, node: DirectNode, alice: str, role: Role
) -> None:
    before = list(node.state.records())
    stub = administration(door, role.value)
    pin = codes_pb2.SetPinRequest(request_id="1", user_id="alice", pin="2468")
    settings = settings_pb2.SetSettingsRequest(request_id="2", settings=settings_pb2.Settings(pin_history=1))
    token = administration_pb2.AddTokenRequest(request_id="3", user_id="alice", type=administration_pb2.TOKEN_TYPE_TOTP)
    for call in (stub.SetPin(pin), stub.SetSettings(settings), stub.AddToken(token), recovery(door, "4", name=role)):
        assert (await error_of(call)).code() is grpc.StatusCode.PERMISSION_DENIED
    assert list(node.state.records()) == before


async def test_never_for_a_disabled_user_or_one_who_is_not_there(door: Door, alice: str) -> None:
    await administration(door).DisableUser(administration_pb2.DisableUserRequest(request_id="d", user_id="alice"))
    error = await error_of(bypass(door, "1"))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.FAILED_PRECONDITION, "USER_DISABLED")
    for call in (bypass(door, "2", user_id="nobody"), recovery(door, "3", "nobody")):
        assert (await error_of(call)).code() is grpc.StatusCode.NOT_FOUND


# Settings


async def get_settings(door: Door, name: str = "operator") -> settings_pb2.Settings:
    answer = await administration(door, name).GetSettings(settings_pb2.GetSettingsRequest(), timeout=20)
    found: settings_pb2.Settings = answer.settings
    return found


async def set_settings(door: Door, request_id: str = "s", **given: Any) -> None:
    request = settings_pb2.SetSettingsRequest(request_id=request_id, settings=settings_pb2.Settings(**given))
    await administration(door).SetSettings(request, timeout=20)


def test_the_contract_has_every_setting_and_no_other() -> None:
    assert set(settings_pb2.Settings.DESCRIPTOR.fields_by_name) == set(Settings.__struct_fields__)


async def test_settings_are_shown_and_set(door: Door, node: DirectNode) -> None:
    found = await get_settings(door, "auditor")
    assert (found.lockout_failures, found.oath_pin, found.pin_no_phone) == (5, OATH_PIN_OFF, True)
    assert len(found.ListFields()) == len(Settings.__struct_fields__)
    await set_settings(door, lockout_failures=10, oath_pin=OATH_PIN_REQUIRED, pin_no_repeated=False, pin_max_age_ms=0)
    changed = await get_settings(door)
    assert (changed.lockout_failures, changed.oath_pin, changed.pin_no_repeated) == (10, OATH_PIN_REQUIRED, False)
    assert node.state.settings == Settings(lockout_failures=10, oath_pin=1, pin_no_repeated=0)


@pytest.mark.parametrize("name", sorted(set(SETTINGS_RANGES) - {"oath_pin"}))
async def test_a_value_out_of_range_is_named_with_its_range(door: Door, node: DirectNode, name: str) -> None:
    _, most = SETTINGS_RANGES[name]
    if most == 1:
        return  # true or false: there is nothing beyond
    error = await error_of(set_settings(door, **{name: most + 1}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == name
    assert f"{most:,}" in str(error.details())
    assert node.state.settings == Settings()


async def test_nothing_and_an_unknown_value_are_refused(door: Door) -> None:
    assert field_of(await error_of(set_settings(door))) == "settings"
    unknown = settings_pb2.Settings(oath_pin=settings_pb2.OATH_PIN_UNSPECIFIED)
    request = settings_pb2.SetSettingsRequest(request_id="1", settings=unknown)
    assert field_of(await error_of(administration(door).SetSettings(request))) == "oath_pin"


def test_every_role_of_these_tests_is_a_client() -> None:
    assert {role.value for role in Role} <= set(ROLES)
    assert first_state().settings == Settings()
