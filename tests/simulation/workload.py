"""What clients ask: people with their tokens, who sign in rightly, wrongly, again, late, and all at once."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from cluster.node.proposer import QueueFull, Unavailable
from cluster.state.codec import pack
from cluster.state.commands import (
    AddToken,
    AddUser,
    Barrier,
    Command,
    DeleteUser,
    DisableToken,
    EnableToken,
    ResyncToken,
    UnlockUser,
    Verify,
    add_token_random_bytes,
)
from cluster.state.records import TokenType
from cluster.state.results import Code, Result
from factors.otp import SECRET_BYTES, Algorithm, Otp, code_at, step_at
from tests.simulation.clients import Call, Client
from tests.simulation.clocks import true_ms
from tests.simulation.faults import Odds
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

PERIOD_S = 15
LOOK_AHEAD = 10
AGAIN_S_MAX = 20.0  # within what clients may do: retries lie within 30 s
USED_KEPT = 20
READ_S = 5.0


@dataclass(slots=True)
class Device:
    """One authenticator in somebody's hand. `position` is the next counter that it will show (HOTP)."""

    token_id: str
    otp: Otp
    hotp: bool
    skew_steps: int
    position: int = 0


class Person:
    """A user as the clients know it; `used` are passcodes that were typed before."""

    def __init__(self, user_id: str) -> None:
        self.user_id = user_id
        self.devices: list[Device] = []
        self.used: list[str] = []


class Workload:
    """Each client asks, waits for the answer (or not), thinks, and asks again."""

    def __init__(
        self,
        world: World,
        odds: Odds,
        clients: list[Client],
        machines: Sequence["Machine"],
        index_of: Callable[[Call], int | None],
    ) -> None:
        self._world = world
        self._machines = machines
        self._index_of = index_of
        self._seen_index = 0  # where the latest change that a client was told of stands in the log
        self._odds = odds
        self._clients = clients
        self._random: Random = world.random("workload")
        self._people = [Person(f"user-{number}") for number in range(odds.users)]
        self._stopped = False
        self._choices: list[tuple[int, Callable[[Client, Person], None]]] = [
            (45, self._right),
            (8, self._wrong),
            (12, self._replayed),
            (8, self._boundary),
            (7, self._all_at_once),
            (5, self._unlock),
            (4, self._resynchronise),
            (3, self._enrol),
            (3, self._switch_token),
            (1, self._delete),
            (4, self._add_user),
            (6, self._read_fresh),
        ]
        for client in clients:
            self._next(client)

    def stop(self) -> None:
        self._stopped = True

    def _next(self, client: Client) -> None:
        self._world.after(self._random.expovariate(1 / self._odds.think_s), self._ask, client)

    def _ask(self, client: Client) -> None:
        if self._stopped:
            return
        person = self._random.choice(self._people)
        if not person.devices:
            self._add_user(client, person)
            return
        weights = [weight for weight, _ in self._choices]
        _, choice = self._random.choices(self._choices, weights)[0]
        choice(client, person)

    def _done(self, client: Client) -> Callable[[Call], None]:
        def done(call: Call) -> None:
            self._seen_index = max(self._seen_index, self._index_of(call) or 0)
            if call.answer is not None and self._random.random() < 0.2:
                self._world.after(self._random.uniform(0, AGAIN_S_MAX - 10), self._again, client, call)
            self._next(client)

        return done

    def _again(self, client: Client, call: Call) -> None:
        if not self._stopped:
            client.again(call)

    def _send(self, client: Client, command: Command) -> None:
        client.ask(command, self._done(client))

    def _verify(self, client: Client, person: Person, passcode: str) -> None:
        person.used = [*person.used[-USED_KEPT:], passcode]
        self._send(client, Verify(person.user_id, passcode))

    def _show(self, device: Device, ahead: int = 0) -> str:
        """The code on the display, or of a position so far ahead of it."""
        if not device.hotp:
            return code_at(device.otp, step_at(true_ms(self._world), PERIOD_S) + device.skew_steps + ahead)
        position = device.position + ahead
        device.position = position + 1
        return code_at(device.otp, position)

    def _right(self, client: Client, person: Person) -> None:
        self._verify(client, person, self._show(self._random.choice(person.devices)))

    def _wrong(self, client: Client, person: Person) -> None:
        self._verify(client, person, f"{self._random.randrange(10**8):08d}")

    def _replayed(self, client: Client, person: Person) -> None:
        self._verify(client, person, self._random.choice(person.used) if person.used else "00000000")

    def _boundary(self, client: Client, person: Person) -> None:
        device = self._random.choice(person.devices)
        if device.hotp:
            self._verify(client, person, self._show(device, self._random.choice((1, LOOK_AHEAD - 1, LOOK_AHEAD))))
        else:
            self._verify(client, person, self._show(device, self._random.choice((-2, -1, 1, 2))))

    def _all_at_once(self, client: Client, person: Person) -> None:
        """One code, several request ids, several clients and machines: at most one is accepted."""
        passcode = self._show(self._random.choice(person.devices))
        person.used = [*person.used[-USED_KEPT:], passcode]
        for other in self._clients:
            if other is not client and self._random.random() < 0.5:
                other.ask(Verify(person.user_id, passcode), lambda call: None)
        self._send(client, Verify(person.user_id, passcode))

    def _read_fresh(self, client: Client, person: Person) -> None:
        """A barrier, and then the state of that machine: it has everything that anybody was told of before."""
        machine = self._random.choice(self._machines)
        told = self._seen_index

        def resolve(outcome: Result | Unavailable) -> None:
            if isinstance(outcome, Unavailable):
                return
            assert machine.process is not None, "a process that answers is there"
            self._world.counts["fresh reads"] += 1
            if machine.process.state.now.position.index < told:
                raise Violation(f"{machine.name} gave a stale state after a barrier")

        if machine.up:
            with suppress(QueueFull):
                machine.submit(pack(Barrier()), 1, READ_S, resolve)
        self._next(client)

    def _unlock(self, client: Client, person: Person) -> None:
        self._send(client, UnlockUser(person.user_id))

    def _resynchronise(self, client: Client, person: Person) -> None:
        device = self._random.choice(person.devices)
        first = self._show(device)
        self._send(client, ResyncToken(device.token_id, first, self._show(device, 0 if device.hotp else 1)))

    def _switch_token(self, client: Client, person: Person) -> None:
        device = self._random.choice(person.devices)
        on = self._random.random() < 0.7
        self._send(client, EnableToken(device.token_id) if on else DisableToken(device.token_id))

    def _add_user(self, client: Client, person: Person) -> None:
        def done(call: Call) -> None:
            if call.answer is not None and not person.devices:
                self._enrol(client, person)
            else:
                self._next(client)

        client.ask(AddUser(person.user_id), done)

    def _delete(self, client: Client, person: Person) -> None:
        person.devices = []
        self._send(client, DeleteUser(person.user_id))

    def _enrol(self, client: Client, person: Person) -> None:
        hotp = self._random.random() < 0.6
        algorithm = self._random.choice(list(Algorithm))
        # Eight digits: codes that are equal by chance would be taken for codes that were used twice.
        otp = Otp(self._random.randbytes(SECRET_BYTES[algorithm]), algorithm, 8)
        kind = TokenType.HOTP if hotp else TokenType.TOTP
        command = AddToken(person.user_id, kind, algorithm, 8, 0 if hotp else PERIOD_S, secret=otp.secret)

        def done(call: Call) -> None:
            if call.answer is not None and call.answer[0] == Code.OK:
                skew = 0 if hotp else self._random.choice((0, 0, -1, 1))
                person.devices = [*person.devices[-3:], Device(call.answer[2], otp, hotp, skew)]
            self._next(client)

        client.ask(command, done, generated=self._random.randbytes(add_token_random_bytes(algorithm)))
