"""Addresses to listen on, and how a port goes from one listener to the next without a caller noticing.

gRPC binds its port itself. A server can't be given another certificate, so that another certificate means another
server on the same port, for a moment beside the first (SO_REUSEPORT). The option is set for that moment only: a
node that starts on a port in use is refused, always.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from typing import TypeVar

from cluster.node.configuration import Address
from cluster.node.errors import AddressError

T = TypeVar("T")

BACKLOG = 128
ANOTHER = "stop what uses it, or choose another in the configuration"
_SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h; Python has no name for it
_RETURN_CONSTANT = 0x06  # BPF_RET | BPF_K


def listen(address: Address, option: str, advice: str = ANOTHER) -> socket.socket:
    """A listening, non-blocking socket. `advice` is what the error says to do.

    Raises:
        AddressError: the address is in use, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        listening = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        # Python adds the address to the system's words.
        number = error.errno or 0
        why = os.strerror(number) if number in errno.errorcode else error.strerror or "unknown host"
        raise cannot_listen(address, option, why.lower(), advice) from error
    listening.setblocking(False)
    return listening


def cannot_listen(address: Address, option: str, why: str, advice: str = ANOTHER) -> AddressError:
    return AddressError(f"can't listen on {option} {address}: {why}; {advice}")


class Listeners:
    """The listening sockets that something else has opened in this process, by handles of our own."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    @classmethod
    def opened_by(cls, call: Callable[[], T]) -> tuple[T, Listeners]:
        """What `call` returns, and the sockets that listen since."""
        before = _listening()
        try:
            result = call()
            after = _listening()
        finally:
            _close(before)
        _close({inode: each for inode, each in after.items() if inode in before})
        return result, cls([each for inode, each in after.items() if inode not in before])

    def share(self, *, shared: bool) -> None:
        """Whether another socket of this user may listen on the same port."""
        for each in self._sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))

    def take_all(self) -> None:
        """Of two that share a port, let the second, which is this, have every new connection."""
        program = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN_CONSTANT, 0, 0, 1))
        for each in self._sockets:
            # Where the kernel refuses, both go on to be given connections, and one that comes in just the moment when
            # the first ends is reset; clients connect again.
            with contextlib.suppress(OSError):
                each.setsockopt(
                    socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", 1, ctypes.addressof(program))
                )

    def end(self) -> None:
        """Listen no more, whoever else has the sockets open; connections are not touched."""
        for each in self._sockets:
            each.shutdown(socket.SHUT_RDWR)
        self.forget()

    def forget(self) -> None:
        """Close our handles."""
        for each in self._sockets:
            each.close()
        self._sockets = []

    def __len__(self) -> int:
        return len(self._sockets)


def _listening() -> dict[int, socket.socket]:
    """Copies of this process's listening TCP sockets, by inode."""
    found: dict[int, socket.socket] = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # closed meanwhile, such as that of the listing itself
            status = os.stat(int(name))
            if not stat.S_ISSOCK(status.st_mode) or status.st_ino in found:
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
            if copy.family in (socket.AF_INET, socket.AF_INET6) and _listens(copy):
                found[status.st_ino] = copy
            else:
                copy.close()
    return found


def _listens(candidate: socket.socket) -> bool:
    return candidate.type == socket.SOCK_STREAM and bool(candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _close(sockets: dict[int, socket.socket]) -> None:
    for each in sockets.values():
        each.close()
