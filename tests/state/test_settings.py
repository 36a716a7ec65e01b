"""Settings are changed for all nodes at one place in the log: all that is named, or nothing."""

import pytest

from cluster.state.commands import SetSettings
from cluster.state.records import SETTINGS_RANGES, Role, Settings
from cluster.state.results import Code, Reason
from tests.state.fixtures import FRONTEND, OPERATOR, Driver, new_state, reloaded


@pytest.fixture
def driver() -> Driver:
    return Driver(new_state(Settings()))


def test_what_is_set_counts_from_the_next_command_on(driver: Driver) -> None:
    driver.add_user("anna")
    driver.add_hotp("anna")
    assert driver.run(SetSettings((("lockout_failures", 2),))).code is Code.OK
    assert driver.state.settings.lockout_failures == 2
    assert [driver.verify("anna", "wrong").reason for _ in range(3)] == [Reason.WRONG, Reason.WRONG, Reason.LOCKED]
    assert reloaded(driver.state).settings == driver.state.settings


def test_each_change_is_an_event_that_says_who(driver: Driver) -> None:
    result = driver.run(SetSettings((("pin_history", 3), ("oath_pin", 1))))
    assert [(event.kind, event.client, getattr(event, "subject", "")) for event in result.events] == [
        ("settings_changed", OPERATOR, "oath_pin=1"),
        ("settings_changed", OPERATOR, "pin_history=3"),
    ]


@pytest.mark.parametrize("name", sorted(SETTINGS_RANGES))
@pytest.mark.parametrize("side", [0, 1])
def test_a_value_out_of_its_range_is_named_and_nothing_changes(driver: Driver, name: str, side: int) -> None:
    value = SETTINGS_RANGES[name][side] + (1 if side else -1)
    other = "tokens_per_user_max" if name != "tokens_per_user_max" else "pin_history"
    refused = driver.run(SetSettings(((other, 7), (name, value))))
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, name)
    assert driver.state.settings == Settings()


@pytest.mark.parametrize(
    "values", [(), (("no_such_setting", 1),), (("pin_history", 1), ("pin_history", 2)), (("__class__", 1),)]
)
def test_what_is_no_change_of_settings_is_refused(driver: Driver, values: tuple[tuple[str, int], ...]) -> None:
    refused = driver.run(SetSettings(values))
    assert (refused.code, refused.field) == (Code.INVALID_ARGUMENT, "settings")
    assert driver.state.settings == Settings()


def test_settings_of_before_there_were_pins_are_kept() -> None:
    """A change writes all of them, the new ones too."""
    driver = Driver(new_state(Settings(hotp_look_ahead=33)))
    assert driver.run(SetSettings((("oath_pin", 1),))).code is Code.OK
    assert driver.state.settings == Settings(hotp_look_ahead=33, oath_pin=1)


def test_only_an_operator_may() -> None:
    for role in Role:
        driver = Driver(new_state(roles={FRONTEND: [role]}))
        code = driver.run(SetSettings((("pin_history", 1),)), client=FRONTEND).code
        assert code is (Code.OK if role is Role.OPERATOR else Code.PERMISSION_DENIED)
