"""A small cluster's state and short ways to drive it; the log's time is in the test's hand."""

from collections.abc import Sequence

from cluster.state.apply import State
from cluster.state.codec import pack, pack_group
from cluster.state.commands import VERSION, AddToken, AddUser, Command, Verify
from cluster.state.genesis import genesis
from cluster.state.records import ClusterIdentity, IssuingKey, Member, Role, Settings, TokenType
from cluster.state.results import Code, Result
from factors.otp import Algorithm, Otp, code_at

CLUSTER_ID = "c0" * 16
OPERATOR = f"watchword://{CLUSTER_ID}/client/operator"
FRONTEND = f"watchword://{CLUSTER_ID}/client/frontend"
STRANGER = f"watchword://{CLUSTER_ID}/client/stranger"
START_MS = 1_700_000_000_000
SECRET = b"12345678901234567890"
OTP = Otp(SECRET, Algorithm.SHA1, 6)


def new_state(
    settings: Settings | None = None, roles: dict[str, list[Role]] | None = None, *, command_version: int = VERSION
) -> State:
    return genesis(
        cluster=ClusterIdentity(CLUSTER_ID, 1, "1c" * 16, START_MS, command_version),
        members={"0a" * 16: Member("node-1", "127.0.0.1:7001", "127.0.0.1:7000")},
        roles=roles or {OPERATOR: [Role.OPERATOR], FRONTEND: [Role.FRONTEND]},
        issuing_key=IssuingKey(b"private", b"certificate", b"root"),
        digest_key=bytes(range(32)),
        settings=settings,
    )


class Driver:
    """One state, one clock, and a request id of its own for every call that does not name one."""

    def __init__(self, state: State | None = None) -> None:
        self.state = state or new_state()
        self.now_ms = START_MS
        self.requests = 0

    def entry(self, *groups: Sequence[bytes]) -> list[list[Result]]:
        return self.raw(*(pack_group(group) for group in groups))

    def raw(self, *payloads: bytes) -> list[list[Result]]:
        return self.state.apply(self.state.position.index + 1, 1, self.now_ms, payloads)

    def packed(
        self, command: Command, *, client: str = OPERATOR, request_id: str | None = None, generated: bytes = b""
    ) -> bytes:
        if request_id is None:
            self.requests += 1
            request_id = f"request-{self.requests}"
        return pack(command, request_id=request_id, client=client, generated=generated)

    def run(
        self, command: Command, *, client: str = OPERATOR, request_id: str | None = None, generated: bytes = b""
    ) -> Result:
        packed = self.packed(command, client=client, request_id=request_id, generated=generated)
        return self.entry([packed])[0][0]

    def verify(
        self, user_id: str, passcode: str, *, token_id: str = "", request_id: str | None = None, client: str = FRONTEND
    ) -> Result:
        command = Verify(user_id, passcode, token_id, "vpn", "192.0.2.7")
        return self.run(command, client=client, request_id=request_id)

    def add_user(self, user_id: str) -> None:
        assert self.run(AddUser(user_id)).code is Code.OK

    def add_hotp(self, user_id: str, secret: bytes = SECRET, counter: int = 0, *, pending: bool = False) -> str:
        command = AddToken(user_id, TokenType.HOTP, period_s=0, counter=counter, secret=secret, pending=pending)
        return self.add(command)

    def add_totp(self, user_id: str, secret: bytes = SECRET, *, pending: bool = False) -> str:
        return self.add(AddToken(user_id, TokenType.TOTP, secret=secret, pending=pending))

    def add(self, command: AddToken) -> str:
        self.requests += 1
        result = self.run(command, generated=self.requests.to_bytes(10, "big") + bytes(20))
        assert result.code is Code.OK, result.code
        return result.token_id

    def totp(self, offset_steps: int = 0, secret: bytes = SECRET) -> str:
        return code_at(Otp(secret, Algorithm.SHA1, 6), self.now_ms // 30_000 + offset_steps)

    def pass_time(self, seconds: int) -> None:
        self.now_ms += seconds * 1000


def hotp(counter: int, secret: bytes = SECRET) -> str:
    return code_at(Otp(secret, Algorithm.SHA1, 6), counter)


def reloaded(state: State) -> State:
    """The same state by way of its records."""
    return State.load(state.position, list(state.records()))
