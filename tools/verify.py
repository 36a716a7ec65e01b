"""`watchword verify`: one authentication."""

import secrets
from typing import Annotated

import typer

from tools.output import ExitCode
from tools.prompt import secret_argument
from tools.session import Session, command
from watchword import errors

APPLICATION = "watchword verify"
TIMEOUT_S_MAX = 30.0


def register(app: typer.Typer) -> None:
    command(app, "verify")(verify)


async def verify(
    session: Session,
    user: Annotated[str, typer.Argument(help="Whose passcode it is.", metavar="USER", show_default=False)],
    passcode: Annotated[
        str | None,
        typer.Argument(
            help="From standard input where it is absent or -, which keeps it out of the list of processes.",
            metavar="PASSCODE",
            show_default=False,
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Ask this node only.", metavar="HOST:PORT", show_default=False)
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(
            help="Repeat an attempt that got no answer: the same id gets the same answer and counts nothing twice.",
            metavar="ID",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds in all, over all nodes that are tried; at most 30.", metavar="S")
    ] = 10.0,
) -> ExitCode:
    """Check one passcode, as a front end would.

    Tries for 10 seconds, at any node, always with one request id.

    Exits 0 accepted; 1 rejected, and nothing else is 1; 2 wrong use or not allowed; 3 no answer (no quorum, no
    connection, deadline); 4 anything unexpected.  --json answers {"decision", "reason", "token_id"}; reason and
    token_id are null for those who may not see them. Where the PIN is due, "advice": "CHANGE_PIN" is there too.
    """
    if not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise errors.InvalidArgument("--timeout is more than 0 and at most 30 seconds", field="timeout")
    code = secret_argument(passcode, "passcode")
    request_id = secrets.token_hex(16) if request_id is None else request_id
    try:
        async with session.client(endpoint=endpoint, timeout_s=timeout_s) as client:
            verification = await client.verify(user, code, application=APPLICATION, request_id=request_id)
    except errors.Unavailable as error:
        again = f"it may have counted, so repeat it within a minute with --request-id {request_id}"
        error.advice = f"{error.advice}; {again}" if error.advice else again
        raise
    except (errors.NotFound, errors.AlreadyExists, errors.FailedPrecondition) as error:
        # An answer that Verify does not give: as an error of its own it would exit 1, which is for rejections.
        raise errors.Unexpected(error.message, advice=error.advice, reason=error.reason) from error
    reason = verification.reason.lower().replace("_", " ")
    due = verification.accepted and verification.advice == "CHANGE_PIN"
    session.output.answer(
        {
            "decision": verification.decision,
            "reason": verification.reason or None,
            "token_id": verification.token_id or None,
            **({"advice": verification.advice} if due else {}),
        },
        f"{verification.decision} ({reason})" if reason and not verification.accepted else verification.decision,
    )
    if due:
        session.output.note("the PIN is due to be changed")
    return ExitCode.OK if verification.accepted else ExitCode.REJECTED
