"""Leases: "only one does it" as a record. Who holds the name, and under which epoch, is decided by the log alone.

An epoch is given once: every acquisition takes the next one, and the record of a name stays for ever so that epochs
only grow. A lease ends when the log's time reaches its end, or when it is released; to go on after that is to acquire
it anew. A holder that was stopped and wakes up carries an epoch that is over, and what it asks changes nothing.
"""

import re
from typing import Final

from msgspec.structs import replace

from cluster.state.commands import AcquireLease, ReleaseLease, RenewLease
from cluster.state.context import Context, Reads
from cluster.state.records import LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN, LEASES_MAX, Lease, Role
from cluster.state.results import ChangeEvent, Code, Refused, Result
from cluster.state.store import LEASES, Transaction

_NAME: Final = re.compile(r"[A-Za-z0-9._@/-]{1,64}")


def acquire_lease(transaction: Transaction, command: AcquireLease, context: Context) -> Result:
    """OK's `token_id` is the epoch. FAILED_PRECONDITION: `lease_held` (also by the one who asks), `leases_max`."""
    key = _key(command.name)
    _check_ttl(command.ttl_ms)
    before = transaction.read(LEASES, key)
    if before is None:
        if len(transaction.keys(LEASES)) >= LEASES_MAX:
            raise Refused(Code.FAILED_PRECONDITION, "leases_max")
        epoch = 1
    elif before.is_held(context.now_ms):
        raise Refused(Code.FAILED_PRECONDITION, "lease_held")
    else:
        epoch = before.epoch + 1
    until_ms = context.now_ms + command.ttl_ms
    transaction.write(LEASES, key, Lease(context.client_short, epoch, until_ms, context.now_ms))
    return _done("lease_acquired", command.name, epoch, context)


def renew_lease(transaction: Transaction, command: RenewLease, context: Context) -> Result:
    """No event: it happens every few seconds. FAILED_PRECONDITION: `lease_lost`."""
    key = _key(command.name)
    _check_ttl(command.ttl_ms)
    check_lease(transaction, command.name, command.epoch, context)
    lease = transaction.read(LEASES, key)
    assert lease is not None, "what is held has a record"
    transaction.write(LEASES, key, replace(lease, until_ms=context.now_ms + command.ttl_ms))
    return Result(Code.OK, token_id=str(command.epoch))


def release_lease(transaction: Transaction, command: ReleaseLease, context: Context) -> Result:
    """By its holder, or by an operator for one that is gone; fine also where that epoch is over already.

    FAILED_PRECONDITION: `lease_lost`, an epoch that was never given, or somebody else's lease.
    """
    key = _key(command.name)
    lease = transaction.read(LEASES, key)
    if lease is None:
        raise Refused(Code.NOT_FOUND, "lease")
    if not 0 < command.epoch <= lease.epoch:
        raise Refused(Code.FAILED_PRECONDITION, "lease_lost")
    if command.epoch < lease.epoch or not lease.is_held(context.now_ms):
        return Result(Code.OK)
    if lease.holder != context.client_short and Role.OPERATOR not in context.roles:
        raise Refused(Code.FAILED_PRECONDITION, "lease_lost")
    transaction.write(LEASES, key, replace(lease, until_ms=context.now_ms))
    return _done("lease_released", command.name, lease.epoch, context)


def check_lease(reads: Reads, name: str, epoch: int, context: Context) -> None:
    """For every command that is done under a lease: whether whoever asks holds that epoch of it now.

    Raises:
        Refused: FAILED_PRECONDITION, `lease_lost`.
    """
    lease = reads.read(LEASES, name.encode())
    if (
        lease is None
        or lease.epoch != epoch
        or lease.holder != context.client_short
        or not lease.is_held(context.now_ms)
    ):
        raise Refused(Code.FAILED_PRECONDITION, "lease_lost")


def _key(name: str) -> bytes:
    if _NAME.fullmatch(name) is None:
        raise Refused(Code.INVALID_ARGUMENT, "name")
    return name.encode()


def _check_ttl(ttl_ms: int) -> None:
    if not LEASE_TTL_MS_MIN <= ttl_ms <= LEASE_TTL_MS_MAX:
        raise Refused(Code.INVALID_ARGUMENT, "ttl_ms")


def _done(kind: str, name: str, epoch: int, context: Context) -> Result:
    event = ChangeEvent(kind, context.client, context.request_id, subject=f"{name} {epoch}")
    return Result(Code.OK, token_id=str(epoch), events=(event,))
