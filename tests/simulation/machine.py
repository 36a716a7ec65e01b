"""One machine: a disk and clocks that stay, and a process of the node's program that comes and goes.

The process does in this order what the node does: enter the engine, run what was called for soon, begin a sync if one
is wanted. A pause stops it between two steps; what arrives meanwhile waits.
"""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from cluster.node.proposer import QueueFull, Unavailable
from cluster.raft.errors import RemovedFromCluster
from cluster.state.apply import State
from cluster.state.results import Result
from datastore.errors import StorageFailed
from tests.simulation.checks import Checks
from tests.simulation.clocks import SimulatedClock
from tests.simulation.faults import DOWN_S, SLOW_SYNC_S_MAX, Odds
from tests.simulation.memory_files import MemoryFiles
from tests.simulation.process import Process
from tests.simulation.storage import Founding
from tests.simulation.world import Violation, World

if TYPE_CHECKING:
    from tests.simulation.network import Network

TICK_S = (0.008, 0.020)
CLOCK_CHECK_S = 1.0
BUSY_S = 0.0002


class PowerCut(BaseException):  # no handler of the node may take it for a failure of its own
    """Raised by the disk in the middle of an operation's sequence: the machine is gone before that operation."""


class Machine:
    """`process` is None while it is down. All that leaves the engine's stack goes through `_enter`."""

    def __init__(
        self,
        name: str,
        world: World,
        odds: Odds,
        network: "Network",
        checks: Checks,
        founding: Founding,
        state: State | None = None,
    ) -> None:
        self.name = name
        self.member_id = founding.member_ids[name]
        self.retired = False  # it was removed, and told so
        self.world = world
        self.odds = odds
        self.network = network
        self.checks = checks
        self.founding = founding
        self.random: Random = world.random(name)
        self.files = MemoryFiles(world.random(f"{name}/disk"))
        self.clock = SimulatedClock(world, world.random(f"{name}/clock"))
        self.process: Process | None = None
        self.calm = False
        self._paused = False
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._on_disk = (0, 0)  # while down: the last entry known to be on the disk, as (index, term)
        self._terms_on_disk: dict[int, int] = {}
        founding.write(self, state or founding.state)

    # -- life --------------------------------------------------------------------------------------------------------
    @property
    def up(self) -> bool:
        return self.process is not None

    def start(self) -> None:
        if self.process is not None or self.retired:
            return
        self.world.note("start", self.name)
        try:
            self.process = Process(self)
        except PowerCut:
            self._cut_power()
            self._start_later()
            return
        except StorageFailed:
            self._end(power_cut=False)
            self._start_later()
            return
        except Exception as error:
            raise Violation(f"{self.name} could not start: {type(error).__name__}: {error}") from error
        self.world.after(self.random.uniform(*TICK_S), self._tick, self.process)
        self.world.after(CLOCK_CHECK_S, self._check_clock, self.process)
        self.network.connect_all(self.name)

    def retire(self) -> None:
        """The node says that it was removed, and stops for good."""
        if self.process is not None and not self.retired:
            self.world.counts["retired"] += 1
            self.retired = True
            self._end(power_cut=False)

    def crash(self) -> None:
        if self.process is not None:
            self._end(power_cut=True)

    def _end(self, *, power_cut: bool) -> None:
        self.world.note("down", self.name, "power" if power_cut else "process")
        process, self.process = self.process, None
        if process is not None:
            self._remember_disk(process)
        self._paused = False
        self._backlog.clear()
        self.network.cut_all(self.name)
        if power_cut:
            self._cut_power()
        else:
            self.files.kill()

    def _cut_power(self) -> None:
        self.files.crash()

    def _start_later(self) -> None:
        self.world.after(self.random.uniform(*DOWN_S), self.start)

    def pause(self) -> None:
        self._paused = self.up

    def resume(self) -> None:
        if not self._paused:
            return
        self._paused = False
        backlog, self._backlog = self._backlog, []
        for action, arguments in backlog:
            self._do(action, *arguments)

    def mend(self) -> None:
        """The faults are over: an operator sets the clock right, and everything runs."""
        self.calm = True
        self.files.before = None
        self.files.failing_syncs = 0
        self.clock.set_off(0)
        self.resume()
        if self.process is None:
            self.start()
        elif self.process.node_clock.trusted() is False:
            self.process.node_clock.accept()

    def fail_next_sync(self) -> None:
        if self.up:
            self.files.failing_syncs = 1

    def crash_in_write(self, operations: int) -> None:
        """The power goes at the so-and-so-many-th disk operation from now."""
        left = operations

        def before(operation: str, path: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                raise PowerCut

        self.files.before = before

    # -- what comes in -----------------------------------------------------------------------------------------------
    def connected(self, peer: str) -> None:
        self._do(self._process_do, self.process, "connected", peer)

    def disconnected(self, peer: str) -> None:
        self._do(self._process_do, self.process, "disconnected", peer)

    def deliver(self, peer: str, frame: bytes) -> None:
        self._do(self._process_do, self.process, "receive", peer, frame)

    def submit(
        self, packed: bytes, cost: int, within_s: float, resolve: Callable[[Result | Unavailable], None]
    ) -> None:
        """Raises QueueFull, unless the process is paused: then the caller never hears of it."""
        if self._paused:
            self._backlog.append((self._submit_late, (self.process, packed, cost, within_s, resolve)))
        elif self.process is not None:
            self._do(self._process_do, self.process, "submit", packed, cost, within_s, resolve)

    def _submit_late(self, process: Process, *arguments: Any) -> None:
        if process is self.process:
            try:
                process.submit(*arguments)
            except QueueFull:
                self.world.counts["queue full"] += 1

    def transfer_leadership(self) -> None:
        self._do(self._process_do, self.process, "transfer_leadership")

    def _process_do(self, process: Process | None, what: str, *arguments: Any) -> None:
        if process is not None and process is self.process:
            getattr(process, what)(*arguments)

    def _tick(self, process: Process) -> None:
        if process is self.process:
            self.world.after(self.random.uniform(*TICK_S), self._tick, process)
            if not self._paused:
                self._do(self._process_do, process, "tick")

    def _check_clock(self, process: Process) -> None:
        if process is self.process:
            self.world.after(CLOCK_CHECK_S, self._check_clock, process)
            if not self._paused:
                self._do(self._process_do, process, "check_clock")

    def later(self, process: Process, delay_s: float, action: Callable[..., None], *arguments: Any) -> None:
        """For the process: call back unless it has ended by then; waits while it is paused."""
        self.world.after(delay_s, self._call_back, process, action, arguments)

    def _call_back(self, process: Process, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if process is self.process:
            self._do(self._still, process, action, arguments)

    def _still(self, process: Process, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if process is self.process:
            action(*arguments)

    # -- one step ----------------------------------------------------------------------------------------------------
    def _do(self, action: Callable[..., None], *arguments: Any) -> None:
        if self._paused:
            self._backlog.append((action, arguments))
            return
        try:
            action(*arguments)
            if self.process is not None:
                self.process.settle()
        except PowerCut:
            self._end(power_cut=True)
            self._start_later()
        except StorageFailed:
            self.world.counts["fail-stops"] += 1
            self._end(power_cut=self.random.random() < 0.5)
            self._start_later()
        except RemovedFromCluster:
            self.retire()
        except (Violation, QueueFull):
            raise
        except Exception as error:
            raise Violation(f"{self.name} raised {type(error).__name__}: {error}") from error
        if self.process is not None:
            self.checks.moved(self)

    def sync_delay_s(self) -> float:
        if not self.calm and self.odds.hits("slow_sync", self.random):
            self.world.counts["slow_sync"] += 1
            return self.random.uniform(0, SLOW_SYNC_S_MAX)
        return self.random.uniform(*self.odds.sync_s)

    # -- what the checks ask -----------------------------------------------------------------------------------------
    def is_leader(self) -> bool:
        return self.process is not None and self.process.leading_term() is not None

    def leading_term(self) -> int | None:
        return None if self.process is None else self.process.leading_term()

    def holds_on_disk(self, index: int, term: int) -> bool:
        """Whether the entry would survive a crash of this machine now, by what the node itself may know."""
        if self.process is None:
            return self._on_disk[0] >= index and self._terms_on_disk.get(index, term) == term
        journal = self.process.journal
        held = journal.term_at(index)
        return journal.synced_index >= index and (held == term or index < journal.base_index)

    def _remember_disk(self, process: Process) -> None:
        journal = process.journal
        self._on_disk = (journal.synced_index, 0)
        self._terms_on_disk = {
            index: journal.term_at(index) or 0 for index in range(journal.base_index, journal.synced_index + 1)
        }
