"""The part of the Administration service that is about the replicated settings."""

from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor
from grpc import aio

from cluster.services import fields
from cluster.services.proposals import Proposals
from cluster.services.status import invalid
from cluster.state.commands import SetSettings
from cluster.state.records import SETTINGS_RANGES, OathPin, Settings
from watchword.v1 import administration_pb2_grpc
from watchword.v1 import settings_pb2 as messages

# ruff: noqa: ARG002, N802 - methods have names and arguments as in the contract

Context: TypeAlias = aio.ServicerContext[Any, Any]

_OATH_PIN = {messages.OATH_PIN_OFF: OathPin.OFF, messages.OATH_PIN_REQUIRED: OathPin.REQUIRED}
_OATH_PIN_TOLD = {own: told for told, own in _OATH_PIN.items()}


class SettingsAdministration(administration_pb2_grpc.AdministrationServicer):
    """Whoever is one too sets the attribute."""

    _proposals: Proposals

    async def GetSettings(self, request: messages.GetSettingsRequest, context: Context) -> messages.GetSettingsResponse:
        state = await self._proposals.fresh(context)
        return messages.GetSettingsResponse(settings=settings_message(state.settings))

    async def SetSettings(self, request: messages.SetSettingsRequest, context: Context) -> messages.SetSettingsResponse:
        command = SetSettings(settings_values(request.settings))
        await self._proposals.change(command, request.request_id, context)
        return messages.SetSettingsResponse()


def settings_message(settings: Settings) -> messages.Settings:
    """All of them; the names are those of the state, and a test holds it."""
    message = messages.Settings()
    for field in messages.Settings.DESCRIPTOR.fields:
        setattr(message, field.name, _told(field, getattr(settings, field.name)))
    return message


def _told(field: FieldDescriptor, value: int) -> int:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _OATH_PIN_TOLD[OathPin(value)]
    return bool(value) if field.type == FieldDescriptor.TYPE_BOOL else value


def settings_values(message: messages.Settings) -> tuple[tuple[str, int], ...]:
    """Those that are given, sorted by name.

    Raises:
        CallError: INVALID_ARGUMENT, none is given, or one is out of its range: it is named.
    """
    given: dict[str, int] = {}
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_ENUM:
            if value not in _OATH_PIN:
                raise invalid(field.name, "must be OATH_PIN_OFF or OATH_PIN_REQUIRED")
            given[field.name] = _OATH_PIN[value]
        else:
            given[field.name] = fields.within(field.name, int(value), *SETTINGS_RANGES[field.name])
    if not given:
        raise invalid("settings", "must set one at least")
    return tuple(sorted(given.items()))
