"""`watchword user …` and `watchword unlock`."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.output import ExitCode, moment
from tools.prompt import confirmed
from tools.session import Session, command, group

if TYPE_CHECKING:
    from watchword.v1 import administration_pb2 as administration

UserArgument = Annotated[str, typer.Argument(metavar="USER", show_default=False)]
COLUMNS = ("USER", "STATE", "TOKENS", "FAILURES", "LOCKED UNTIL", "CREATED")

users = group("user", "Who may sign in: add, look at, disable and delete users.")


class State(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


def register(app: typer.Typer) -> None:
    app.add_typer(users)
    command(app, "unlock")(unlock)


def user_document(user: "administration.User") -> dict[str, Any]:
    """A user for --json; times are milliseconds since 1970, or null."""
    return {
        "user_id": user.user_id,
        "state": state_of(user),
        "created_ms": user.created_ms,
        "locked": user.lockout.locked,
        "locked_until_ms": user.lockout.locked_until_ms or None,
        "failures": user.lockout.failures,
        "token_count": user.token_count,
        "pin": {"changed_ms": user.pin.changed_ms, "due": user.pin.due} if user.HasField("pin") else None,
        "recovery_codes": user.recovery_codes,
        "bypass_until_ms": user.bypass_until_ms or None,
    }


def state_of(user: "administration.User") -> str:
    from watchword.client import name_of
    from watchword.v1.administration_pb2 import UserState

    return name_of(UserState, user.state, "USER_STATE_").lower()


def user_row(user: "administration.User") -> tuple[str, ...]:
    lockout = user.lockout
    until = (moment(lockout.locked_until_ms) or "until unlocked") if lockout.locked else ""
    return (
        user.user_id,
        state_of(user),
        str(user.token_count),
        str(lockout.failures),
        until,
        moment(user.created_ms),
    )


@command(users, "add")
async def add(session: Session, user: UserArgument) -> ExitCode:
    """Add a user, who can sign in once there is a token (`watchword token add`)."""
    async with session.client() as client:
        added = await client.add_user(user)
    session.output.answer(
        user_document(added), f"added {added.user_id}; next: watchword token add {added.user_id} --type totp"
    )
    return ExitCode.OK


@command(users, "show")
async def show(session: Session, user: UserArgument) -> ExitCode:
    """Show a user, the user's tokens, and the last attempts with why each failed."""
    from tools.tokens import COLUMNS as TOKEN_COLUMNS
    from tools.tokens import token_document, token_row

    async with session.client() as client:
        found = await client.get_user(user)
    document = user_document(found.user)
    document["tokens"] = [token_document(token) for token in found.tokens]
    document["attempts"] = [attempt_document(attempt) for attempt in found.attempts]
    if session.output.as_json:
        session.output.answer(document)
        return ExitCode.OK
    session.output.table(COLUMNS, [user_row(found.user)])
    for line in lines_beside(found.user):
        print(line)
    print()
    session.output.table(TOKEN_COLUMNS, [token_row(token) for token in found.tokens])
    print()
    session.output.table(
        ("ATTEMPT", "DECISION", "REASON", "TOKEN", "ASKED BY", "APPLICATION", "ADDRESS", "NOTE"),
        [
            tuple(str(value or "") for value in (moment(attempt["at_ms"]), *list(attempt.values())[1:]))
            for attempt in document["attempts"]
        ],
    )
    return ExitCode.OK


def lines_beside(user: "administration.User") -> list[str]:
    """What a user has beside tokens."""
    lines = []
    if user.HasField("pin"):
        due = ", to be changed at the next sign-in" if user.pin.due else ""
        lines.append(f"PIN since {moment(user.pin.changed_ms)}{due}")
    if user.recovery_codes:
        lines.append(f"recovery codes left: {user.recovery_codes}")
    if user.bypass_until_ms:
        lines.append(f"a bypass works until {moment(user.bypass_until_ms)}")
    return lines


def attempt_document(attempt: "administration.Attempt") -> dict[str, Any]:
    from watchword.client import name_of
    from watchword.v1.authentication_pb2 import Decision, Reason

    return {
        "at_ms": attempt.at_ms,
        "decision": name_of(Decision, attempt.decision, "DECISION_") or None,
        "reason": name_of(Reason, attempt.reason, "REASON_") or None,
        "token_id": attempt.token_id or None,
        "client_identity": attempt.client_identity,
        "application": attempt.client.application or None,
        "address": attempt.client.address or None,
        "note": attempt.note or None,
    }


@command(users, "list")
async def list_(
    session: Session,
    prefix: Annotated[str, typer.Option(help="Only users whose name begins so.", metavar="TEXT")] = "",
    state: Annotated[State | None, typer.Option(help="Only users in this state.", show_default=False)] = None,
    locked: Annotated[
        bool | None,
        typer.Option("--locked/--not-locked", help="Only users who are locked out, or are not.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="Users a page.", min=1, max=1000, metavar="N")] = 100,
    page: Annotated[
        str, typer.Option(help="The next page, as the one before named it.", metavar="TOKEN", show_default=False)
    ] = "",
    all_: Annotated[bool, typer.Option("--all", help="All pages.")] = False,
) -> ExitCode:
    """List users, a page at a time, in the order of their names.

    --json answers {"users": [...], "next_page": TOKEN or null}.
    """
    from watchword.v1.administration_pb2 import UserState

    wanted = UserState.Value(f"USER_STATE_{state.name}" if state else "USER_STATE_UNSPECIFIED")
    found: list[administration.User] = []
    async with session.client() as client:
        while True:
            answer = await client.list_users(
                page_size=limit, page_token=page, prefix=prefix, state=wanted, locked=locked
            )
            found.extend(answer.users)
            page = answer.next_page_token
            if not all_ or not page:
                break
    if session.output.as_json:
        session.output.answer({"users": [user_document(user) for user in found], "next_page": page or None})
    else:
        session.output.table(COLUMNS, [user_row(user) for user in found])
        if page:
            session.output.note(f"there are more: --page {page}")
    return ExitCode.OK


@command(users, "disable")
async def disable(session: Session, user: UserArgument) -> ExitCode:
    """Let a user sign in no more, until enabled again; tokens are kept."""
    async with session.client() as client:
        await client.disable_user(user)
    session.output.answer({"user_id": user, "state": "disabled"}, f"disabled {user}")
    return ExitCode.OK


@command(users, "enable")
async def enable(session: Session, user: UserArgument) -> ExitCode:
    """Let a disabled user sign in again."""
    async with session.client() as client:
        await client.enable_user(user)
    session.output.answer({"user_id": user, "state": "enabled"}, f"enabled {user}")
    return ExitCode.OK


@command(users, "delete")
async def delete(
    session: Session,
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> ExitCode:
    """Delete a user with all tokens. There is no way back."""
    if not confirmed(f"Delete {user} with all tokens?", yes):
        session.output.answer({"user_id": user, "deleted": False}, "nothing was deleted")
        return ExitCode.REJECTED
    async with session.client() as client:
        await client.delete_user(user)
    session.output.answer({"user_id": user, "deleted": True}, f"deleted {user}")
    return ExitCode.OK


async def unlock(session: Session, user: UserArgument) -> ExitCode:
    """Clear a lockout and the failures counted so far; exits 0 also where there are none."""
    async with session.client() as client:
        await client.unlock_user(user)
    session.output.answer({"user_id": user, "locked": False}, f"unlocked {user}")
    return ExitCode.OK
