"""Changes of the replicated settings."""

from msgspec.structs import replace

from cluster.state.commands import SetSettings
from cluster.state.context import Context
from cluster.state.records import SETTINGS_RANGES, settings_out_of_range
from cluster.state.results import ChangeEvent, Code, Refused, Result
from cluster.state.store import SETTINGS, SINGLE, Transaction


def set_settings(transaction: Transaction, command: SetSettings, context: Context) -> Result:
    """All of it, or nothing where one is unknown, named twice or out of its range: the field names it."""
    before = transaction.read(SETTINGS, SINGLE)
    assert before is not None, "every state has settings"
    values = dict(command.values)
    if not values or len(values) < len(command.values):
        raise Refused(Code.INVALID_ARGUMENT, "settings")
    for name in values:
        if name not in SETTINGS_RANGES:
            raise Refused(Code.INVALID_ARGUMENT, "settings")
    after = replace(before, **values)
    wrong = settings_out_of_range(after)
    if wrong is not None:
        raise Refused(Code.INVALID_ARGUMENT, wrong)
    transaction.write(SETTINGS, SINGLE, after)
    events = tuple(
        ChangeEvent("settings_changed", context.client, context.request_id, subject=f"{name}={values[name]}")
        for name in sorted(values)
    )
    return Result(Code.OK, events=events)
