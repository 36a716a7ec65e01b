"""A servicer in short: PINs in plain text beside the state, so that results come without the slow hash."""

from dataclasses import dataclass, field

import msgspec

from cluster.state.commands import ChangePin, IssueBypass, IssueRecoveryCodes, PinGenerated, PinSplit, SetPin, VerifyPin
from cluster.state.pins import code_lengths
from cluster.state.records import OathPin, PinHash, Settings
from cluster.state.results import Code, Result
from factors.passcode import LETTERED, Split, normalise, splits
from factors.recovery import draw, fingerprint
from tests.state.fixtures import FRONTEND, OPERATOR, Driver, new_state

encode = msgspec.msgpack.encode
SALT = b"salt of 16 bytes"


@dataclass
class Desk:
    """A driver, and the PINs of the users: by user, newest first."""

    driver: Driver = field(default_factory=lambda: Driver(new_state(Settings(oath_pin=OathPin.REQUIRED))))
    pins: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    drawn: int = 0

    def new_hash(self) -> PinHash:
        self.drawn += 1
        return PinHash(self.drawn.to_bytes(16, "big"), bytes(32), 8, 1, 1)

    def version(self, user: str) -> bytes:
        return self.pins[user][0][0] if self.pins.get(user) else b""

    def is_pin(self, user: str, typed: str) -> bool:
        return bool(self.pins.get(user)) and self.pins[user][0][1] == typed

    def set_pin(
        self,
        user: str,
        pin: str,
        *,
        must_change: bool = False,
        recent: bool = False,
        version: bytes | None = None,
        request_id: str | None = None,
    ) -> Result:
        made = self.new_hash()
        generated = PinGenerated(self.version(user) if version is None else version, made, recent)
        result = self.driver.run(SetPin(user, must_change), generated=encode(generated), request_id=request_id)
        if result.code is Code.OK and result.events:
            self.pins.setdefault(user, []).insert(0, (made.salt, pin))
        return result

    def ways(self, user: str, typed: str) -> tuple[PinSplit, ...]:
        found = splits(normalise(typed), code_lengths(self.driver.state, user, ""))
        return tuple(self.told(user, each) for each in found)

    def told(self, user: str, split: Split) -> PinSplit:
        right = self.is_pin(user, split.pin)
        return PinSplit(split.length, right, split.code if right else "")

    def verify(
        self,
        user: str,
        typed: str,
        *,
        token_id: str = "",
        version: bytes | None = None,
        request_id: str | None = None,
        client: str = FRONTEND,
    ) -> Result:
        command = VerifyPin(user, self.ways(user, typed), token_id, "vpn", "192.0.2.7")
        generated = PinGenerated(self.version(user) if version is None else version)
        return self.driver.run(command, client=client, generated=encode(generated), request_id=request_id)

    def change_pin(
        self, user: str, old: str, code: str, new: str, *, recent: bool = False, request_id: str | None = None
    ) -> Result:
        made = self.new_hash()
        if any(each.isalpha() for each in code):
            ways = (self.told(user, Split(old, code, LETTERED)),)
        else:
            right = self.is_pin(user, old)
            ways = tuple(
                PinSplit(length, right and len(code) == length, code if right and len(code) == length else "")
                for length in sorted(code_lengths(self.driver.state, user, ""))
            )
        command = ChangePin(user, ways)
        generated = PinGenerated(self.version(user), made, recent)
        result = self.driver.run(command, client=FRONTEND, generated=encode(generated), request_id=request_id)
        if result.decision.name == "ACCEPT" and result.events:
            self.pins[user].insert(0, (made.salt, new))
        return result

    def recovery_codes(self, user: str, *, request_id: str | None = None) -> tuple[str, ...]:
        self.drawn += 1
        codes = draw(self.drawn.to_bytes(4, "big"), 10)
        generated = SALT + b"".join(fingerprint(code, SALT) for code in codes)
        result = self.driver.run(IssueRecoveryCodes(user), generated=generated, request_id=request_id)
        assert result.code is Code.OK
        return codes

    def bypass(self, user: str, seconds: int = 300, *, client: str = OPERATOR, reason: str = "lost") -> Result | str:
        """The passcode, or why there is none."""
        self.drawn += 1
        (code,) = draw(self.drawn.to_bytes(4, "big"), 1)
        generated = SALT + fingerprint(code, SALT)
        result = self.driver.run(IssueBypass(user, seconds, reason), client=client, generated=generated)
        return code if result.code is Code.OK else result
