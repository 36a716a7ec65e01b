"""What systemd is told (sd_notify(3)): ready, stopping, and, with WatchdogSec=, that the event loop still turns.

A datagram to the socket that NOTIFY_SOCKET names. Without one nobody listens, and nothing is sent.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

FEEDS_PER_WATCHDOG: Final = 3


class ServiceManager:
    """`path` is empty where there is none; `watchdog_s` is 0 where it wants no signs of life."""

    def __init__(self, path: str = "", watchdog_s: float = 0.0) -> None:
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> ServiceManager:
        usec = environment.get("WATCHDOG_USEC", "")
        meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog_s = int(usec) / 1e6 if meant and usec.isascii() and usec.isdigit() else 0.0
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_s)

    def tell(self, *assignments: str) -> bool:
        """Such as READY=1. Whether it was taken: whoever does not read its socket must not stop the node."""
        if not self._path:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto("\n".join(assignments).encode(), self._path)
            except OSError:
                return False
        return True

    async def feed(self) -> None:
        """Until it is cancelled; returns at once where nobody waits for it."""
        while self._path and self.watchdog_s:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / FEEDS_PER_WATCHDOG)
