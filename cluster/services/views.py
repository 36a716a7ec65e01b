"""What is read of the state, as messages. Secrets have no place in them."""

from cluster.state.client_reads import ClientView
from cluster.state.reads import AttemptView, TokenView, UserView
from watchword.v1 import administration_pb2, authentication_pb2

# The numbers of the state's enumerations are those of the contract; a test holds it.


def user_message(user: UserView) -> administration_pb2.User:
    return administration_pb2.User(
        user_id=user.user_id,
        state=administration_pb2.USER_STATE_ENABLED if user.enabled else administration_pb2.USER_STATE_DISABLED,
        created_ms=user.created_ms,
        lockout=administration_pb2.Lockout(
            locked=user.locked, locked_until_ms=user.locked_until_ms, failures=user.failures
        ),
        token_count=user.token_count,
        pin=None
        if user.pin_changed_ms is None
        else administration_pb2.PinState(changed_ms=user.pin_changed_ms, due=user.pin_due),
        recovery_codes=user.recovery_codes,
        bypass_until_ms=user.bypass_until_ms,
    )


def token_message(token: TokenView) -> administration_pb2.Token:
    return administration_pb2.Token(
        token_id=token.token_id,
        user_id=token.user_id,
        type=administration_pb2.TokenType.ValueType(token.type),
        state=administration_pb2.TokenState.ValueType(token.status),
        algorithm=administration_pb2.Algorithm.ValueType(token.algorithm),
        digits=token.digits,
        period=token.period_s,
        created_ms=token.created_ms,
        last_used_ms=token.last_used_ms,
        drift_steps=token.drift_steps,
        counter=token.counter,
    )


def attempt_message(attempt: AttemptView) -> administration_pb2.Attempt:
    return administration_pb2.Attempt(
        at_ms=attempt.at_ms,
        decision=authentication_pb2.Decision.ValueType(attempt.decision),
        reason=authentication_pb2.Reason.ValueType(attempt.reason),
        token_id=attempt.token_id,
        client_identity=attempt.client,
        client=authentication_pb2.ClientInfo(application=attempt.application, address=attempt.address),
        note=attempt.note,
    )


def client_message(client: ClientView) -> administration_pb2.Client:
    return administration_pb2.Client(
        name=client.name,
        identity=client.identity,
        roles=[administration_pb2.Role.Value(f"ROLE_{role.name}") for role in client.roles],
        created_ms=client.created_ms,
        created_by=client.created_by,
        revoked_ms=client.revoked_ms,
        revoked_by=client.revoked_by,
        certificates=[
            administration_pb2.Certificate(
                serial=certificate.serial.hex(),
                issued_ms=certificate.issued_ms,
                valid_until_ms=certificate.valid_until_ms,
            )
            for certificate in client.certificates
        ],
    )
