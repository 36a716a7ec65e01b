"""What the clients were told, against the one log that was committed: a small sequential model of the promises.

The model reads each entry once, when the first machine applies it, with the results that the state gave. It keeps its
own account, in the plainest form, of what may be used once and of what counts, and objects where the state differs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.state.codec import Envelope, unpack, unpack_contents, unpack_group
from cluster.state.commands import (
    AddToken,
    Command,
    ConfirmToken,
    DeleteToken,
    DeleteUser,
    ResyncToken,
    SettleMember,
    UnlockUser,
    Verify,
)
from cluster.state.records import Settings, TokenType
from cluster.state.results import Code, Decision, Reason, Result
from factors.otp import Otp, code_at, step_at
from tests.simulation.checks import Applied, Results
from tests.simulation.clients import Answer, Call, answer_of
from tests.simulation.world import Violation

COUNTED = {Reason.WRONG, Reason.REPLAYED, Reason.TOO_OLD}
DRIFT_SEARCHED = 150  # steps: as far as a resynchronisation can move a token's clock, and more


@dataclass(slots=True)
class ModelToken:
    """`spent`: the highest counter or step that was accepted."""

    user_id: str
    otp: Otp
    hotp: bool
    period_s: int
    spent: int = -1


@dataclass(slots=True)
class ModelUser:
    """Failures that may count, by their stamps, and until when attempts are refused."""

    failures: list[int] = field(default_factory=list)
    locked_until_ms: int = 0


class Ledger:
    """See the module."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._answers: dict[tuple[str, str], tuple[int, int, Answer]] = {}  # request -> index, stamp, answer
        self._tokens: dict[str, ModelToken] = {}
        self._users: dict[str, ModelUser] = {}
        self.accepted = 0
        self.remembered = 0

    def index_of(self, call: Call) -> int | None:
        """Where in the log the request was applied first."""
        entry = self._answers.get((call.identity, call.request_id))
        return None if entry is None else entry[0]

    # -- the log -----------------------------------------------------------------------------------------------------
    def on_first(self, index: int, applied: Applied, results: Results) -> None:
        if applied.configuration is not None:
            return
        for payload, answers in zip(applied.groups, results, strict=True):
            commands = unpack_group(payload)
            if commands is None or len(commands) != len(answers):
                raise Violation(f"a group at index {index} is not what a proposer packed")
            for packed, result in zip(commands, answers, strict=True):
                envelope = unpack(packed)
                command = None if envelope is None else unpack_contents(envelope)
                if envelope is None or command is None or result.code in (Code.CORRUPT, Code.INTERNAL):
                    raise Violation(f"a command at index {index} was answered {result.code.name}")
                if envelope.request_id:
                    self._command(index, applied.stamp_ms, envelope, command, result)

    def _command(self, index: int, stamp_ms: int, envelope: Envelope, command: Command, result: Result) -> None:
        if result.code is Code.STALE or isinstance(command, SettleMember):
            return  # not remembered; and a node's own, which may be no member any more
        if result.code in (Code.RESOURCE_EXHAUSTED, Code.REQUEST_ID_REUSED, Code.PERMISSION_DENIED):
            raise Violation(f"{envelope.request_id} was answered {result.code.name}")
        request = (envelope.client, envelope.request_id)
        first = self._answers.get(request)
        if first is not None:
            self.remembered += 1
            if stamp_ms - first[1] > self._settings.request_ids_kept_ms:
                raise Violation(f"{envelope.request_id} was applied again after its window: a hand-over came too late")
            if answer_of(result) != first[2]:
                raise Violation(f"{envelope.request_id} was answered {first[2]} at first, then {answer_of(result)}")
            return
        self._answers[request] = (index, stamp_ms, answer_of(result))
        self._take(stamp_ms, command, result)

    def _take(self, stamp_ms: int, command: Command, result: Result) -> None:
        match command:
            case Verify():
                self._verify(stamp_ms, command, result)
            case _ if result.code is not Code.OK:
                pass
            case AddToken():
                otp = Otp(command.secret, command.algorithm, command.digits)
                hotp = command.type is TokenType.HOTP
                self._tokens[result.token_id] = ModelToken(command.user_id, otp, hotp, command.period_s)
            case ResyncToken(token_id, first_code, second_code):
                self._spend(stamp_ms, token_id, first_code)
                self._spend(stamp_ms, token_id, second_code)
            case ConfirmToken(token_id, code):
                self._spend(stamp_ms, token_id, code)
            case DeleteToken(token_id):
                del self._tokens[token_id]
            case DeleteUser(user_id):
                self._users.pop(user_id, None)
                self._tokens = {name: token for name, token in self._tokens.items() if token.user_id != user_id}
            case UnlockUser(user_id):
                self._users.pop(user_id, None)

    def _verify(self, stamp_ms: int, command: Verify, result: Result) -> None:
        user = self._users.setdefault(command.user_id, ModelUser())
        if result.reason is Reason.DISABLED or result.reason is Reason.UNKNOWN_USER:
            return
        locked = stamp_ms < user.locked_until_ms
        if locked != (result.reason is Reason.LOCKED):
            raise Violation(f"{command.user_id} is {'' if locked else 'not '}locked, and was told {result.reason.name}")
        if result.decision is Decision.ACCEPT:
            self.accepted += 1
            self._spend(stamp_ms, result.token_id, command.passcode)
            user.failures.clear()
        elif result.reason in COUNTED:
            since = stamp_ms - self._settings.lockout_window_ms
            user.failures = [at for at in user.failures if at > since] + [stamp_ms]
            if len(user.failures) >= self._settings.lockout_failures:
                user.failures.clear()
                user.locked_until_ms = stamp_ms + self._settings.lockout_duration_ms

    def _spend(self, stamp_ms: int, token_id: str, code: str) -> None:
        """The code must be that of a position after all that were spent."""
        token = self._tokens.get(token_id)
        if token is None:
            raise Violation(f"a token accepted that nobody enrolled: {token_id}")
        for position in self._candidates(token, stamp_ms):
            if code_at(token.otp, position) == code:
                token.spent = position
                return
        raise Violation(f"token {token_id} accepted a code that was spent, or was never its own")

    def _candidates(self, token: ModelToken, stamp_ms: int) -> Iterable[int]:
        first = token.spent + 1
        if token.hotp:
            return range(first, first + self._settings.resync_positions + 2)
        now = step_at(stamp_ms, token.period_s)
        near = sorted(range(now - DRIFT_SEARCHED, now + DRIFT_SEARCHED), key=lambda step: abs(step - now))
        return (step for step in near if step >= first)

    # -- the clients -------------------------------------------------------------------------------------------------
    def answered(self, call: Call) -> None:
        """What a client was told is what the log says."""
        entry = self._answers.get((call.identity, call.request_id))
        if entry is None:
            raise Violation(f"{call.request_id} was answered, and is not in the log")
        if entry[2] != call.answer:
            raise Violation(f"{call.request_id} was answered {call.answer}; the log says {entry[2]}")
