"""Who the members are to be, as operators ask for it, and who they are, as configurations in the log say.

A member's record is made when it is asked for and goes when a configuration without it is applied. In between, the
leader brings the log's configuration closer to the records, one step at a time; there is one change at a time.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from cluster.state.commands import AddMember, RemoveMember
from cluster.state.context import Context
from cluster.state.records import MEMBER_ADDRESS_BYTES_MAX, MEMBER_NAME_BYTES_MAX, MEMBERS_MAX, Member
from cluster.state.results import ChangeEvent, Code, Refused, Result
from cluster.state.store import MEMBERS, Transaction

MEMBER_ID_CHARACTERS: Final = 32


def add_member(transaction: Transaction, command: AddMember, context: Context) -> Result:
    """FAILED_PRECONDITION: `change_pending`, `members_max`. ALREADY_EXISTS: the field that another member has."""
    _check(command)
    members = {key: transaction.read(MEMBERS, key) for key in transaction.keys(MEMBERS)}
    if command.member_id.encode() in members:
        raise Refused(Code.ALREADY_EXISTS, "member_id")
    for member in members.values():
        assert member is not None, "a key of the table has a record"
        for field in ("name", "peer_address", "client_address"):
            if getattr(member, field) == getattr(command, field):
                raise Refused(Code.ALREADY_EXISTS, field)
        if not member.settled:
            raise Refused(Code.FAILED_PRECONDITION, "change_pending")
    if len(members) >= MEMBERS_MAX:
        raise Refused(Code.FAILED_PRECONDITION, "members_max")
    member = Member(command.name, command.peer_address, command.client_address, voter=False)
    transaction.write(MEMBERS, command.member_id.encode(), member)
    return _done("member_added", command.member_id, context)


def remove_member(transaction: Transaction, command: RemoveMember, context: Context) -> Result:
    """FAILED_PRECONDITION: `change_pending` (of another member), `last_member`."""
    removed = command.member_id.encode()
    member = transaction.read(MEMBERS, removed)
    if member is None:
        raise Refused(Code.NOT_FOUND, "member_id")
    others = [transaction.read(MEMBERS, key) for key in transaction.keys(MEMBERS) if key != removed]
    if any(other is not None and not other.settled for other in others):
        raise Refused(Code.FAILED_PRECONDITION, "change_pending")
    if not others:
        raise Refused(Code.FAILED_PRECONDITION, "last_member")
    transaction.write(MEMBERS, removed, replace(member, leaving=True))
    return _done("member_removed", command.member_id, context)


def configure(transaction: Transaction, voters: Sequence[str], learners: Sequence[str]) -> None:
    """A configuration of the log is applied: the records say who votes, and those who left are gone."""
    members = {*voters, *learners}
    for key in transaction.keys(MEMBERS):
        member = transaction.read(MEMBERS, key)
        assert member is not None, "a key of the table has a record"
        member_id = key.decode()
        if member_id not in members and member.leaving:
            transaction.delete(MEMBERS, key)
        elif member.voter != (member_id in voters):
            transaction.write(MEMBERS, key, replace(member, voter=member_id in voters))


def _check(command: AddMember) -> None:
    member_id = command.member_id
    if len(member_id) != MEMBER_ID_CHARACTERS or set(member_id) - set("0123456789abcdef"):
        raise Refused(Code.INVALID_ARGUMENT, "member_id")
    for field, most in (
        ("name", MEMBER_NAME_BYTES_MAX),
        ("peer_address", MEMBER_ADDRESS_BYTES_MAX),
        ("client_address", MEMBER_ADDRESS_BYTES_MAX),
    ):
        if not 0 < len(getattr(command, field).encode()) <= most:
            raise Refused(Code.INVALID_ARGUMENT, field)


def _done(kind: str, member_id: str, context: Context) -> Result:
    return Result(Code.OK, events=(ChangeEvent(kind, context.client, context.request_id, subject=member_id),))
