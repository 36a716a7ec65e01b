"""Sign-ins with PIN, code, recovery code and bypass against a plain model of what may be used once and what counts."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.state.commands import AddToken, UnlockUser
from cluster.state.records import OathPin, Settings, TokenType
from cluster.state.results import BYPASS, RECOVERY_CODE, Code, Decision, Reason, Result
from cluster.state.store import FAILURES
from factors.otp import Algorithm, Otp, code_at
from tests.state.fixtures import Driver, new_state, reloaded
from tests.state.people import Desk

USER = "anna"
PINS = ["2468", "9753", "135790", "97531357"]
SECRETS = {6: b"12345678901234567890", 8: b"abcdefghijklmnopqrst"}
# Locked only where the model says so, and soon open again.
SETTINGS = Settings(
    oath_pin=OathPin.REQUIRED, lockout_failures=4, lockout_duration_ms=60_000, lockout_window_ms=24 * 3600 * 1000
)
COUNTED = {Reason.WRONG, Reason.REPLAYED, Reason.TOO_OLD}


@dataclass
class Model:
    """The plainest account: what was accepted, what is left, and how many failures there were since."""

    pin: str = PINS[0]
    counters: dict[int, int] = field(default_factory=lambda: {6: 0, 8: 0})
    recovery: set[str] = field(default_factory=set)
    bypass: str = ""
    bypass_until_ms: int = 0
    failures: int = 0
    locked_until_ms: int = 0
    answers: dict[str, tuple[Code, Reason, str]] = field(default_factory=dict)

    def expected(self, typed: str, now_ms: int) -> bool:
        """Whether it must be accepted."""
        if now_ms < self.locked_until_ms or not typed.startswith(self.pin):
            return False
        rest = typed[len(self.pin) :]
        if rest == self.bypass and self.bypass:
            return now_ms < self.bypass_until_ms
        if rest in self.recovery:
            return True
        return any(
            rest == code_at(Otp(secret, Algorithm.SHA1, digits), self.counters[digits] + ahead)
            for digits, secret in SECRETS.items()
            for ahead in range(11)
        )

    def spend(self, typed: str, token_id: str) -> None:
        rest = typed[len(self.pin) :]
        if token_id == BYPASS:
            assert rest == self.bypass
            self.bypass = ""
        elif token_id == RECOVERY_CODE:
            self.recovery.remove(rest)
        else:
            digits = len(rest)
            otp = Otp(SECRETS[digits], Algorithm.SHA1, digits)
            ahead = next(a for a in range(11) if code_at(otp, self.counters[digits] + a) == rest)
            self.counters[digits] += ahead + 1

    def count(self, reason: Reason, now_ms: int) -> None:
        if reason in COUNTED:
            self.failures += 1
            if self.failures == SETTINGS.lockout_failures:
                self.failures, self.locked_until_ms = 0, now_ms + SETTINGS.lockout_duration_ms


steps = st.one_of(
    st.tuples(st.just("code"), st.sampled_from(PINS), st.sampled_from([6, 8]), st.integers(-2, 12)),
    st.tuples(st.just("code"), st.just(""), st.sampled_from([6, 8]), st.integers(0, 2)),
    st.tuples(st.just("recovery"), st.sampled_from(PINS), st.integers(0, 9)),
    st.tuples(st.just("bypass"), st.sampled_from(PINS)),
    st.tuples(st.just("again"), st.integers(0, 30)),
    st.tuples(st.just("stale"), st.integers(0, 2)),
    st.tuples(st.just("set"), st.sampled_from(PINS)),
    st.tuples(st.just("change"), st.sampled_from(PINS), st.sampled_from(PINS), st.sampled_from([6, 8])),
    st.tuples(st.just("issue")),
    st.tuples(st.just("draw")),
    st.tuples(st.just("unlock")),
    st.tuples(st.just("wait"), st.sampled_from([1, 61])),
    st.tuples(st.just("reload")),
)


class Play:
    """The state and the model, side by side. Codes that were drawn stay known, also those that work no more."""

    def __init__(self) -> None:
        self.desk = Desk(Driver(new_state(SETTINGS)))
        self.model = Model()
        self.known = ["ABCD2345"] * 10
        self.bypass = "ABCD2345"
        self.typed: dict[str, str] = {}
        self.typed_ms: dict[str, int] = {}
        self.driver = self.desk.driver
        self.driver.add_user(USER)
        for digits, secret in SECRETS.items():
            self.driver.add(AddToken(USER, TokenType.HOTP, digits=digits, period_s=0, secret=secret))
        self.desk.set_pin(USER, self.model.pin)

    def step(self, name: str, *arguments: object) -> None:
        getattr(self, f"do_{name}")(*arguments)
        kept = self.driver.state.read(FAILURES, USER.encode())
        assert (len(kept.failures_ms) if kept else 0) == self.model.failures

    def sign_in(self, typed: str) -> None:
        request_id = f"sign-in-{len(self.typed)}"
        expected = self.model.expected(typed, self.driver.now_ms)
        result = self.desk.verify(USER, typed, request_id=request_id)
        assert (result.decision is Decision.ACCEPT) == expected, result.reason
        self.typed[request_id], self.typed_ms[request_id] = typed, self.driver.now_ms
        self.model.answers[request_id] = (result.code, result.reason, result.token_id)
        self.account(typed, result)

    def account(self, typed: str, result: Result) -> None:
        if result.decision is Decision.ACCEPT:
            self.model.spend(typed, result.token_id)
            self.model.failures, self.model.locked_until_ms = 0, 0
        else:
            self.model.count(result.reason, self.driver.now_ms)

    def code(self, digits: int, ahead: int) -> str:
        position = max(0, self.model.counters[digits] + ahead)
        return code_at(Otp(SECRETS[digits], Algorithm.SHA1, digits), position)

    def do_code(self, pin: str, digits: int, ahead: int) -> None:
        self.sign_in(pin + self.code(digits, ahead))

    def do_recovery(self, pin: str, place: int) -> None:
        self.sign_in(pin + self.known[place])

    def do_bypass(self, pin: str) -> None:
        self.sign_in(pin + self.bypass)

    def do_again(self, place: int) -> None:
        """A retry, with the first PIN or another one: never a second acceptance, and never another count."""
        request_id = f"sign-in-{place}"
        if request_id not in self.typed or self.driver.now_ms - self.typed_ms[request_id] > 60_000:
            return
        first = self.model.answers[request_id]
        result = self.desk.verify(USER, self.typed[request_id], request_id=request_id)
        assert not result.events
        told = (result.code, result.reason, result.token_id)
        # After the PIN was changed a retry is asked with the one before: that is the servicer's to do.
        assert told == first or (first[1] is Reason.ACCEPTED and result.code is Code.REQUEST_ID_REUSED)

    def do_stale(self, ahead: int) -> None:
        before = self.people()
        result = self.desk.verify(USER, self.model.pin + self.code(6, ahead), version=b"of another time.")
        assert result.code is Code.STALE
        assert self.people() == before

    def people(self) -> list[tuple[str, bytes, bytes]]:
        """All records but those of requests, which time takes away."""
        return [record for record in self.driver.state.records() if not record[0].startswith("request")]

    def do_set(self, pin: str) -> None:
        assert self.desk.set_pin(USER, pin).code is Code.OK
        self.model.pin = pin

    def do_change(self, old: str, new: str, digits: int) -> None:
        typed = old + self.code(digits, 0)
        expected = old == self.model.pin and self.driver.now_ms >= self.model.locked_until_ms
        result = self.desk.change_pin(USER, old, self.code(digits, 0), new)
        assert (result.decision is Decision.ACCEPT) == expected
        self.account(typed, result)
        if expected:
            self.model.pin = new

    def do_issue(self) -> None:
        self.bypass = self.model.bypass = str(self.desk.bypass(USER, 60))
        self.model.bypass_until_ms = self.driver.now_ms + 60_000

    def do_draw(self) -> None:
        self.known = list(self.desk.recovery_codes(USER))
        self.model.recovery = set(self.known)

    def do_unlock(self) -> None:
        self.driver.run(UnlockUser(USER))
        self.model.failures, self.model.locked_until_ms = 0, 0

    def do_wait(self, seconds: int) -> None:
        self.driver.pass_time(seconds)

    def do_reload(self) -> None:
        self.driver.state = reloaded(self.driver.state)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_the_state_says_what_the_model_says(history: list[tuple[str, ...]]) -> None:
    play = Play()
    for name, *arguments in history:
        play.step(name, *arguments)
