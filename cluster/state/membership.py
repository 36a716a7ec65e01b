"""Who the members are to be, as operators ask for it, and who they are, as configurations in the log say.

A member's record is made when it is asked for and goes when a configuration without it is applied. In between, the
leader brings the log's configuration closer to the records, one step at a time; there is one change at a time. What
cannot be done while another change is under way is STALE, `change_pending`: it is not remembered, so that the same
request may wait and ask again.
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from cluster.state.commands import AddMember, RemoveMember, SettleMember, TransferLeadership
from cluster.state.context import Context
from cluster.state.records import (
    FORMER_MEMBERS_KEPT,
    MEMBER_ADDRESS_BYTES_MAX,
    MEMBER_ID_BYTES,
    MEMBER_NAME_BYTES_MAX,
    MEMBERS_MAX,
    FormerMember,
    Member,
    Transfer,
)
from cluster.state.results import ChangeEvent, Code, Refused, Result
from cluster.state.store import FORMER_MEMBERS, MEMBERS, SINGLE, TRANSFERS, Transaction

CHANGE_PENDING: Final = "change_pending"
_HEX: Final = frozenset("0123456789abcdef")


def add_member(transaction: Transaction, command: AddMember, context: Context) -> Result:
    """STALE: `change_pending`. FAILED_PRECONDITION: `members_max`. ALREADY_EXISTS: what another member has."""
    member_id = command.member_id
    if len(member_id) != 2 * MEMBER_ID_BYTES or set(member_id) - _HEX:
        raise Refused(Code.INVALID_ARGUMENT, "member_id")
    add(transaction, member_id, Member(command.name, command.peer_address, command.client_address, voter=False))
    return done("member_added", member_id, context)


def add(transaction: Transaction, member_id: str, new: Member) -> None:
    """A record of a member that is to be filled. Raises Refused, as `add_member`."""
    _check_texts(new)
    members = _members(transaction)
    if member_id in members or transaction.read(FORMER_MEMBERS, member_id.encode()) is not None:
        raise Refused(Code.ALREADY_EXISTS, "member_id")
    _check_free(new, members)
    if any(not member.settled for member in members.values()):
        raise Refused(Code.STALE, CHANGE_PENDING)
    if len(members) >= MEMBERS_MAX:
        raise Refused(Code.FAILED_PRECONDITION, "members_max")
    transaction.write(MEMBERS, member_id.encode(), new)


def remove_member(transaction: Transaction, command: RemoveMember, context: Context) -> Result:
    """STALE: `change_pending`, of another member. FAILED_PRECONDITION: `last_member`. Fine where it is gone already."""
    members = _members(transaction)
    member = members.get(command.member_id)
    if member is None:
        if transaction.read(FORMER_MEMBERS, command.member_id.encode()) is None:
            raise Refused(Code.NOT_FOUND, "member_id")
        return Result(Code.OK)
    others = [other for member_id, other in members.items() if member_id != command.member_id]
    if any(not other.settled for other in others):
        raise Refused(Code.STALE, CHANGE_PENDING)
    if not any(other.voter for other in others):
        raise Refused(Code.FAILED_PRECONDITION, "last_member")
    transaction.write(MEMBERS, command.member_id.encode(), replace(member, leaving=True))
    return done("member_removed", command.member_id, context)


def settle_member(transaction: Transaction, command: SettleMember, context: Context) -> Result:
    """What the leader's node found out about a removal; only a member's word counts."""
    members = _members(transaction)
    if context.client.rpartition("/")[2] not in members:
        raise Refused(Code.PERMISSION_DENIED, "member_id")
    member = members.get(command.member_id)
    if member is None or not member.leaving:
        return Result(Code.OK)  # it was settled meanwhile
    if command.gone:
        _forget(transaction, command.member_id, member, context.now_ms)
        return Result(Code.OK)
    transaction.write(MEMBERS, command.member_id.encode(), replace(member, leaving=False))
    return done("member_kept", command.member_id, context)


def transfer_leadership(transaction: Transaction, command: TransferLeadership, context: Context) -> Result:
    """The leader's node looks for the record, and acts. FAILED_PRECONDITION: `only_voter`, `not_a_voter`."""
    members = _members(transaction)
    leads = context.generated.decode("ascii", "replace")
    if leads not in members:
        raise Refused(Code.INVALID_ARGUMENT, "generated")
    voters = {member_id for member_id, member in members.items() if member.settled}
    if not voters - {leads}:
        raise Refused(Code.FAILED_PRECONDITION, "only_voter")
    if command.to_member and command.to_member not in voters:
        raise Refused(Code.FAILED_PRECONDITION, "not_a_voter")
    transaction.write(TRANSFERS, SINGLE, Transfer(leads, command.to_member, context.now_ms))
    return done("leadership_transferred", command.to_member or leads, context)


def configure(transaction: Transaction, voters: Sequence[str], learners: Sequence[str], now_ms: int) -> None:
    """A configuration of the log is applied: the records say who votes, and those who left are gone.

    Also one whose removal was given up when it was in the log already.
    """
    configured = {*voters, *learners}
    for member_id, member in _members(transaction).items():
        if member_id not in configured and (member.leaving or member.voter):
            _forget(transaction, member_id, member, now_ms)
        elif member.voter != (member_id in voters):
            transaction.write(MEMBERS, member_id.encode(), replace(member, voter=member_id in voters))


def _forget(transaction: Transaction, member_id: str, member: Member, now_ms: int) -> None:
    """The record goes; that the id was a member's stays known, so that a node that wakes up can be told."""
    transaction.delete(MEMBERS, member_id.encode())
    transaction.write(FORMER_MEMBERS, member_id.encode(), FormerMember(member.name, now_ms))
    kept = transaction.keys(FORMER_MEMBERS)
    if len(kept) > FORMER_MEMBERS_KEPT:
        former = {key: transaction.read(FORMER_MEMBERS, key) for key in kept}
        oldest = min(kept, key=lambda key: (record.removed_ms if (record := former[key]) else 0, key))
        transaction.delete(FORMER_MEMBERS, oldest)


def _members(transaction: Transaction) -> dict[str, Member]:
    found = {key.decode(): transaction.read(MEMBERS, key) for key in transaction.keys(MEMBERS)}
    return {member_id: member for member_id, member in found.items() if member is not None}


def _check_texts(member: Member) -> None:
    for field, most in (
        ("name", MEMBER_NAME_BYTES_MAX),
        ("peer_address", MEMBER_ADDRESS_BYTES_MAX),
        ("client_address", MEMBER_ADDRESS_BYTES_MAX),
    ):
        if not 0 < len(getattr(member, field).encode()) <= most:
            raise Refused(Code.INVALID_ARGUMENT, field)


def _check_free(new: Member, members: dict[str, Member]) -> None:
    """Nobody has the name or one of the addresses, whatever it is for."""
    if new.peer_address == new.client_address:
        raise Refused(Code.INVALID_ARGUMENT, "peer_address")
    for member in members.values():
        if member.name == new.name:
            raise Refused(Code.ALREADY_EXISTS, "member_name")
        for field in ("peer_address", "client_address"):
            if getattr(new, field) in (member.peer_address, member.client_address):
                raise Refused(Code.ALREADY_EXISTS, field)


def done(kind: str, subject: str, context: Context, token_id: str = "") -> Result:
    event = ChangeEvent(kind, context.client, context.request_id, subject=subject)
    return Result(Code.OK, token_id=token_id, events=(event,))
