"""`watchword token …`: enrolled authenticators."""

import base64
import binascii
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.output import ExitCode, is_terminal, moment
from tools.prompt import read_secret, secret_argument
from tools.session import Session, command, group
from watchword.errors import InvalidArgument

if TYPE_CHECKING:
    from watchword.v1 import administration_pb2 as administration

TokenArgument = Annotated[str, typer.Argument(metavar="TOKEN_ID", show_default=False)]
CodeArgument = Annotated[
    str, typer.Argument(metavar="CODE", help="- reads it from standard input.", show_default=False)
]
COLUMNS = ("TOKEN", "TYPE", "STATE", "ALGORITHM", "DIGITS", "PERIOD", "COUNTER", "DRIFT", "LAST USED", "CREATED")

tokens = group("token", "Enrolled authenticators: phones and other generators of one-time codes.")


class Type(StrEnum):
    TOTP = "totp"
    HOTP = "hotp"


class Algorithm(StrEnum):
    SHA1 = "SHA1"
    SHA256 = "SHA256"
    SHA512 = "SHA512"


def register(app: typer.Typer) -> None:
    app.add_typer(tokens)


def secret_bytes(text: str) -> bytes:
    """What base32 stands for, whatever its case, spaces and padding.  An error does not repeat it."""
    letters = "".join(text.split()).rstrip("=").upper()
    try:
        return base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        raise InvalidArgument(
            "the secret is not base32", field="secret", advice="it is made of the letters A-Z and the digits 2-7"
        ) from None


def token_document(token: "administration.Token") -> dict[str, Any]:
    """A token for --json; times are milliseconds since 1970, or null."""
    from watchword.client import name_of
    from watchword.v1 import administration_pb2 as administration

    is_totp = token.type == administration.TOKEN_TYPE_TOTP
    return {
        "token_id": token.token_id,
        "type": name_of(administration.TokenType, token.type, "TOKEN_TYPE_").lower(),
        "state": name_of(administration.TokenState, token.state, "TOKEN_STATE_").lower(),
        "algorithm": name_of(administration.Algorithm, token.algorithm, "ALGORITHM_") or "SHA1",
        "digits": token.digits,
        "period": token.period if is_totp else None,
        "counter": None if is_totp else token.counter,
        "drift_steps": token.drift_steps if is_totp else None,
        "last_used_ms": token.last_used_ms or None,
        "created_ms": token.created_ms,
    }


def token_row(token: "administration.Token") -> tuple[str, ...]:
    document = token_document(token)
    document["last_used_ms"] = moment(token.last_used_ms)
    document["created_ms"] = moment(token.created_ms)
    return tuple("" if value is None else str(value) for value in document.values())


@command(tokens, "add")
async def add(
    session: Session,
    user: Annotated[str, typer.Argument(metavar="USER", show_default=False)],
    type_: Annotated[Type, typer.Option("--type", help="By time (totp) or by counter (hotp).", show_default=False)],
    secret: Annotated[
        str | None,
        typer.Option(
            help="A secret that exists already; padding, case and spaces are ignored. - reads it from standard input. "
            "Without it the cluster draws one.",
            metavar="BASE32",
            show_default=False,
        ),
    ] = None,
    algorithm: Annotated[
        Algorithm, typer.Option(help="The hash. Many phone apps know SHA1 only.", case_sensitive=False)
    ] = Algorithm.SHA1,
    digits: Annotated[int, typer.Option(help="Length of a code: 6 or 8.", metavar="6|8")] = 6,
    period: Annotated[
        int | None, typer.Option(help="Seconds a code lasts (totp): 15 to 300, default 30.", metavar="S", min=1)
    ] = None,
    counter: Annotated[
        int | None, typer.Option(help="Counter of the next code (hotp), default 0.", metavar="N", min=0, max=2**63 - 1)
    ] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Accept nothing until `watchword token confirm`.")] = False,
) -> ExitCode:
    """Enrol an authenticator, active at once unless --pending.

    Prints its otpauth:// URI and, on a terminal, the QR code that a phone reads. The secret is in them, and is shown
    this once.  --json answers {"token_id", "uri"}.
    """
    from watchword.v1 import administration_pb2 as administration

    if digits not in (6, 8):
        raise InvalidArgument("--digits is 6 or 8", field="digits")
    if period is not None and type_ is Type.HOTP:
        raise InvalidArgument("--period is for --type totp", field="period")
    if counter is not None and type_ is Type.TOTP:
        raise InvalidArgument("--counter is for --type hotp", field="counter")
    raw = None if secret is None else secret_bytes(secret_argument(secret, "secret"))
    async with session.client() as client:
        added = await client.add_token(
            user,
            administration.TokenType.Value(f"TOKEN_TYPE_{type_.name}"),
            secret=raw,
            algorithm=administration.Algorithm.Value(f"ALGORITHM_{algorithm.name}"),
            digits=digits,
            period=period or 0,
            counter=counter,
            pending=pending,
        )
    session.output.answer({"token_id": added.token_id, "uri": added.uri}, f"token {added.token_id}", added.uri)
    if not session.output.as_json:
        if is_terminal():
            print_qr_code(added.uri)
        session.output.note("the secret is in the URI, and is shown this once")
        if pending:
            session.output.note(f"it accepts nothing until: watchword token confirm {added.token_id} CODE")
    return ExitCode.OK


def print_qr_code(uri: str) -> None:
    import segno

    segno.make(uri, error="m", micro=False).terminal(out=sys.stdout, compact=True)


@command(tokens, "confirm")
async def confirm(session: Session, token_id: TokenArgument, code: CodeArgument) -> ExitCode:
    """Make a pending token active, by a code from it."""
    value = secret_argument(code, "code")
    async with session.client() as client:
        await client.confirm_token(token_id, value)
    session.output.answer({"token_id": token_id, "state": "active"}, f"confirmed {token_id}")
    return ExitCode.OK


@command(tokens, "list")
async def list_(session: Session, user: Annotated[str, typer.Argument(metavar="USER", show_default=False)]) -> ExitCode:
    """List a user's tokens.  --json answers {"tokens": [...]}."""
    async with session.client() as client:
        found = await client.list_tokens(user)
    if session.output.as_json:
        session.output.answer({"tokens": [token_document(token) for token in found]})
    else:
        session.output.table(COLUMNS, [token_row(token) for token in found])
    return ExitCode.OK


@command(tokens, "resync")
async def resync(
    session: Session,
    token_id: TokenArgument,
    code1: Annotated[str, typer.Argument(metavar="CODE1", help="- reads it from standard input.", show_default=False)],
    code2: Annotated[
        str, typer.Argument(metavar="CODE2", help="The code after CODE1; - reads it.", show_default=False)
    ],
) -> ExitCode:
    """Find a token's place again by two consecutive codes, where its counter or its clock has run away."""
    first = secret_argument(code1, "first code")
    second = read_secret("second code") if code2 == "-" else code2
    async with session.client() as client:
        await client.resync_token(token_id, first, second)
    session.output.answer({"token_id": token_id, "resynchronised": True}, f"resynchronised {token_id}")
    return ExitCode.OK


@command(tokens, "disable")
async def disable(session: Session, token_id: TokenArgument) -> ExitCode:
    """Accept no code of a token, until enabled again."""
    async with session.client() as client:
        await client.disable_token(token_id)
    session.output.answer({"token_id": token_id, "state": "disabled"}, f"disabled {token_id}")
    return ExitCode.OK


@command(tokens, "enable")
async def enable(session: Session, token_id: TokenArgument) -> ExitCode:
    """Accept a disabled token's codes again."""
    async with session.client() as client:
        await client.enable_token(token_id)
    session.output.answer({"token_id": token_id, "state": "active"}, f"enabled {token_id}")
    return ExitCode.OK


@command(tokens, "delete")
async def delete(session: Session, token_id: TokenArgument) -> ExitCode:
    """Delete a token. There is no way back, but a new one can be enrolled."""
    async with session.client() as client:
        await client.delete_token(token_id)
    session.output.answer({"token_id": token_id, "deleted": True}, f"deleted {token_id}")
    return ExitCode.OK
