"""`watchword pin …`, `watchword token recovery` and `watchword bypass`."""

from typing import Annotated

import typer

from tools.output import ExitCode, moment
from tools.prompt import is_terminal, read_secret
from tools.session import Session, command, group
from tools.tokens import tokens
from watchword.errors import InvalidArgument

UserArgument = Annotated[str, typer.Argument(metavar="USER", show_default=False)]

pins = group("pin", "PINs, which go before the code where the settings require it (`watchword settings set`).")


def register(app: typer.Typer) -> None:
    app.add_typer(pins)
    command(app, "bypass")(bypass)


@command(pins, "set")
async def set_(
    session: Session,
    user: UserArgument,
    must_change: Annotated[
        bool, typer.Option("--must-change", help="Have the user choose another at the next sign-in.")
    ] = False,
) -> ExitCode:
    """Set a user's PIN.

    It is asked for on a terminal, without echo and twice, and otherwise read from standard input: never an argument,
    which others could see in the list of processes.
    """
    pin = read_secret("PIN")
    if is_terminal() and read_secret("PIN again") != pin:
        raise InvalidArgument("the two are not the same", field="pin", advice="nothing was changed: try again")
    async with session.client() as client:
        await client.set_pin(user, pin, must_change=must_change)
    session.output.answer({"user_id": user, "must_change": must_change}, f"set the PIN of {user}")
    return ExitCode.OK


@command(tokens, "recovery")
async def recovery(session: Session, user: UserArgument) -> ExitCode:
    """Draw ten recovery codes, each of which signs in once, in the place of a code; earlier ones work no more.

    They are shown this once: print them, or let the user write them down.  --json answers {"user_id", "codes": [...]}.
    """
    async with session.client() as client:
        codes = list(await client.issue_recovery_codes(user))
    session.output.answer({"user_id": user, "codes": codes}, *codes)
    session.output.note("each works once, after the PIN where one is required; they are shown this once")
    return ExitCode.OK


async def bypass(
    session: Session,
    user: UserArgument,
    reason: Annotated[
        str,
        typer.Option(help="Why: it is recorded, so name a ticket and no person.", metavar="TEXT", show_default=False),
    ],
    seconds: Annotated[int, typer.Option(help="How long it works.", metavar="S", min=10, max=86_400)] = 300,
) -> ExitCode:
    """Print a passcode that signs a user in once, for a while: for somebody whose phone is lost or broken.

    It goes in the place of a code, so that a PIN is still asked for where one is required. A second one replaces the
    first. Not for a disabled user; a helpdesk gets none for itself or for an operator.

    --json answers {"user_id", "passcode", "expires_ms"}.
    """
    async with session.client() as client:
        issued = await client.issue_bypass(user, reason, seconds=seconds)
    session.output.answer(
        {"user_id": user, "passcode": issued.passcode, "expires_ms": issued.expires_ms}, issued.passcode
    )
    session.output.note(f"works once, until {moment(issued.expires_ms)}; it is shown this once")
    return ExitCode.OK
