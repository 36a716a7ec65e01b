"""`watchword settings …`: what is replicated, and the same for all nodes."""

from typing import TYPE_CHECKING, Annotated

import typer

from tools.output import ExitCode
from tools.session import Session, command, group
from watchword.errors import InvalidArgument

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

    from watchword.v1.settings_pb2 import Settings

settings = group("settings", "What is replicated and the same for all nodes: lockout, windows, PINs.")

ENUM_PREFIX = "OATH_PIN_"
SWITCH = {"on": True, "off": False}
DIGITS_MAX = 18


def register(app: typer.Typer) -> None:
    app.add_typer(settings)


def settings_document(found: "Settings") -> dict[str, int | str | bool]:
    """All that there are, by name: numbers, true or false, and `oath_pin` as a word."""
    return {field.name: shown(field, getattr(found, field.name)) for field in found.DESCRIPTOR.fields}


def shown(field: "FieldDescriptor", value: int) -> int | str | bool:
    if field.enum_type is None:
        return bool(value) if field.type == field.TYPE_BOOL else value
    known = field.enum_type.values_by_number.get(value)
    return known.name.removeprefix(ENUM_PREFIX).lower() if known else str(value)


def as_text(value: int | str | bool) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def changed(words: list[str]) -> "Settings":
    """The message of NAME VALUE NAME VALUE …"""
    from watchword.v1.settings_pb2 import Settings

    if not words or len(words) % 2:
        raise InvalidArgument("a setting and its value go together", advice="write NAME VALUE, once or more")
    message = Settings()
    for place, (name, word) in enumerate(zip(words[::2], words[1::2], strict=True)):
        field = Settings.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            raise InvalidArgument(f"there is no setting {name}", advice="watchword settings show lists them")
        if name in words[: 2 * place : 2]:
            raise InvalidArgument(f"{name} is there twice", field=name)
        try:
            setattr(message, name, parsed(field, word))
        except ValueError:
            raise InvalidArgument(f"{name} can't be {word}", field=name, advice=allowed(field)) from None
    return message


def parsed(field: "FieldDescriptor", word: str) -> int:
    """The value; ValueError for what is none."""
    if field.enum_type is not None:
        known = field.enum_type.values_by_name.get(f"{ENUM_PREFIX}{word.upper()}")
        if known is None or not known.number:
            raise ValueError(word)
        return int(known.number)
    if field.type == field.TYPE_BOOL:
        if word not in SWITCH:
            raise ValueError(word)
        return SWITCH[word]
    if not (word.isascii() and word.isdigit() and len(word) <= DIGITS_MAX):
        raise ValueError(word)
    return int(word)


def allowed(field: "FieldDescriptor") -> str:
    if field.enum_type is not None:
        return "it is off or required"
    return "it is on or off" if field.type == field.TYPE_BOOL else "it is a whole number"


@command(settings, "show")
async def show(session: Session) -> ExitCode:
    """Show all settings.  --json answers {NAME: VALUE, ...}."""
    async with session.client() as client:
        document = settings_document(await client.get_settings())
    if session.output.as_json:
        session.output.answer(document)
    else:
        session.output.table(("SETTING", "VALUE"), [(name, as_text(value)) for name, value in document.items()])
    return ExitCode.OK


@command(settings, "set")
async def set_(
    session: Session,
    words: Annotated[list[str], typer.Argument(metavar="NAME VALUE…", show_default=False)],
) -> ExitCode:
    """Set one or more, all or none, for the whole cluster at once.

    Durations are in milliseconds.  Before `oath_pin required`, give everybody a PIN: who has none can't sign in.

    For example: watchword settings set lockout_failures 10 oath_pin required
    """
    message = changed(words)
    async with session.client() as client:
        await client.set_settings(message)
        document = settings_document(message)
    given = {field.name: document[field.name] for field, _ in message.ListFields()}
    session.output.answer(given, *(f"{name} {as_text(value)}" for name, value in given.items()))
    return ExitCode.OK
