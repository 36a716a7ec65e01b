"""`watchword up`: a development cluster on loopback, in the foreground; real processes, certificates and files."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Self

from cluster.node.configuration import LoadedConfiguration, load_configuration
from cluster.node.directory import DirectoryLock, holder_of
from cluster.node.errors import EXIT_STOPPED, ConfigurationError, DirectoryError, NodeError
from cluster.node.listening import listen
from datastore.errors import DatastoreError
from datastore.files import RealFiles
from tools.development_files import DevelopmentDirectory, open_or_make
from tools.output import Output
from tools.serve import say
from tools.session import PROFILE_DEFAULT
from watchword.client import Client
from watchword.errors import WatchwordError
from watchword.profile import load_profile

POLL_S = 0.1
READY_S = 60.0
# Time for requests, leadership and the last data file, in a node's own order of ending.
END_S = 60.0

OTHER_CLUSTER = "stop what uses it, or make another cluster with --dir DIR --port PORT"


def up_command(directory: Path, *, nodes: int | None, port: int | None, output: Output) -> int:
    """Make or go on with the cluster in `directory`, until SIGINT or SIGTERM; returns the exit code."""
    stop = threading.Event()

    def stop_on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_on_signal)
    try:
        place = open_or_make(RealFiles(), directory, nodes, port)
        lock = DirectoryLock.take(place.path)
        configurations = checked_configurations(place)
    except (NodeError, DatastoreError) as error:
        return say(error, output)
    except OSError as error:
        what = f"{directory}: can't be used ({error.strerror}); name a directory of your own with --dir DIR"
        return say(DirectoryError(what), output)
    with DevelopmentCluster(place, configurations, output) as cluster:
        cluster.say_where()
        cluster.run(stop)
    lock.release()
    return cluster.exit_code


def checked_configurations(place: DevelopmentDirectory) -> dict[str, LoadedConfiguration]:
    """Each node's configuration, on loopback, with its directory and ports free.

    Raises:
        NodeError: what is wrong, before anything is started.
    """
    files = place.configurations()
    if not files:
        raise DirectoryError(
            f"{place.path}: holds no node; restore one into {place.path}/node-1, or remove {place.path}"
        )
    loaded = {name: load_configuration(file) for name, file in files.items()}
    running = {name: holder for name, each in loaded.items() if (holder := holder_of(each.directory))}
    if running:
        raise DirectoryError(
            f"{' and '.join(running)} still run{'s' if len(running) == 1 else ''}, started by hand or left by an `up`"
            f" that was killed; first stop what runs: kill {' '.join(running.values())}"
        )
    for configuration in loaded.values():
        addresses = {"client_address": configuration.client, "peer_address": configuration.peer}
        if configuration.metrics is not None:
            addresses["metrics_address"] = configuration.metrics
        for option, address in addresses.items():
            if not is_loopback(address.host):
                raise ConfigurationError(
                    f"{configuration.path}: {option} {address} is not loopback, and `watchword up` is for development;"
                    " put 127.0.0.1 back, or use `watchword serve`"
                )
            listen(address, option, OTHER_CLUSTER).close()
    return loaded


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class DevelopmentCluster:
    """The nodes' processes. A node that dies is not restarted; when the last one is gone, so is the cluster."""

    def __init__(
        self, place: DevelopmentDirectory, configurations: dict[str, LoadedConfiguration], output: Output
    ) -> None:
        self._place = place
        self._configurations = configurations
        self._output = output
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.exit_code = EXIT_STOPPED

    def __enter__(self) -> Self:
        for name, configuration in self._configurations.items():
            # A session of its own: Ctrl-C reaches this process, which stops the nodes in their order.
            self._running[name] = subprocess.Popen(  # noqa: S603 - this program, with a path of ours
                [sys.executable, "-P", "-m", "tools.main", "serve", "--config", str(configuration.path)],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def say_where(self) -> None:
        print(f"Watchword development cluster in {self._place.path}")
        for name, configuration in self._configurations.items():
            metrics = f"  metrics {configuration.metrics}" if configuration.metrics else ""
            print(
                f"  {name}  clients {configuration.client}  peers {configuration.peer}{metrics}"
                f"  log {configuration.log_file}"
            )
        print(f"  profile {self._place.profile}", flush=True)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`, or until no node is left."""
        self._wait_until_ready(stop)
        while self._running and not stop.wait(POLL_S):
            self._notice_deaths()
        if not self._running:
            self._output.note(f"no node is left; `{self._again()}` starts them again with the same data")

    def _wait_until_ready(self, stop: threading.Event) -> None:
        deadline = time.monotonic() + READY_S
        while self._running and not stop.is_set():
            self._notice_deaths()
            if asyncio.run(self._is_ready()):
                self._say_ready()
                return
            if time.monotonic() > deadline:
                self._output.note("the cluster has no leader yet; the nodes' logs say why, and this goes on waiting")
                return
            stop.wait(POLL_S)

    async def _is_ready(self) -> bool:
        """Every node that runs serves."""
        endpoints = {str(self._configurations[name].client) for name in self._running}
        async with Client(load_profile(self._place.profile), timeout_s=2.0) as client:
            statuses = await client.get_statuses()
        return bool(endpoints) and all(
            not isinstance(answer := statuses.get(endpoint), WatchwordError | None) and answer.node.serving
            for endpoint in endpoints
        )

    def _say_ready(self) -> None:
        profile = (
            "" if self._place.profile == PROFILE_DEFAULT.absolute() else f" --profile {_shown(self._place.profile)}"
        )
        print("Ready. Try, in another terminal:")
        for command in ("user add alice", "token add alice --type totp", "verify alice"):
            print(f"  {program()}{profile} {command}")
        print(f"Ctrl-C stops it; `{self._again()}` goes on with the same data.", flush=True)

    def _again(self) -> str:
        path = self._place.path
        return f"{program()} up" + ("" if path == PROFILE_DEFAULT.absolute().parent else f" --dir {_shown(path)}")

    def _notice_deaths(self) -> None:
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            self.exit_code = code if code > 0 else 1
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            configuration = self._configurations[name]
            self._output.note(
                f"{name} {how}; its log is {configuration.log_file}; this starts it again:\n"
                f"  {program()} serve --config {_shown(configuration.path)}"
            )

    def _end(self) -> None:
        """All at once, each in its own order; one that does not end in time is ended."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + END_S
        codes = []
        for name, process in self._running.items():
            try:
                codes.append(process.wait(timeout=max(0.1, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                self._output.note(f"{name} did not end in {END_S:.0f} s and is killed; its data is safe")
                process.kill()
                codes.append(process.wait())
        if self._running:
            # A node that was still on its way up has nothing to put in order, and ends by the signal itself.
            failed = [code for code in codes if code not in {EXIT_STOPPED, -signal.SIGTERM}]
            self.exit_code = abs(failed[0]) if failed else EXIT_STOPPED


def program() -> str:
    """How this user calls the command line."""
    if shutil.which("watchword") is not None:
        return "watchword"
    return _shown(Path(sys.executable).parent / "watchword")


def _shown(path: Path) -> str:
    """Relative where that is shorter to type."""
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
