"""The port that clients call: a gRPC server, and, for a while after its certificate changed, the one before it.

A change takes nothing away from anybody. A second server with the new certificate begins to listen beside the first,
is given all new connections, and then the first stops listening. Connections that are open stay where they are until
they are of the age at which any connection is ended in good order (limits.CONNECTION_AGE_MS).

gRPC has credentials that change in place; they don't survive a crowd of handshakes (cluster.services.server).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from grpc import aio

from cluster.node.configuration import Address
from cluster.node.identity import TlsFiles
from cluster.node.listening import Listeners, cannot_listen
from cluster.services import limits
from cluster.services.server import TlsIdentity, server_credentials

# By then a listener that is given no new connections has accepted those that it had.
ACCEPTED_S = 0.2
# When no connection of a server that listens no more is left: gRPC varies their age by a tenth.
RETIRED_S = (1.1 * limits.CONNECTION_AGE_MS + limits.CONNECTION_AGE_GRACE_MS) / 1000


class FrontDoor:
    """`make_server(shares_port)` gives a server without a port, not started."""

    def __init__(self, address: Address, make_server: Callable[[bool], aio.Server], *, drain_s: float) -> None:
        self._address = address
        self._make_server = make_server
        self._drain_s = drain_s
        self._server: aio.Server | None = None
        self._listeners = Listeners([])
        self._retiring: dict[asyncio.Task[None], aio.Server] = {}

    async def open(self, tls: TlsFiles) -> None:
        """Listen.

        Raises:
            AddressError: the address is in use, or not this machine's.
        """
        assert self._server is None, "a door is opened once"
        server = self._make_server(False)
        try:
            self._listeners = self._bind(server, tls)
        except RuntimeError as error:
            raise cannot_listen(self._address, "client_address", "in use, or not this machine's") from error
        await server.start()
        self._server = server

    async def change(self, tls: TlsFiles, *, distrusted: bool) -> None:
        """Show another certificate to whoever connects from now on.

        `distrusted`: other roots count now, so that connections of before are ended when their calls are answered.

        Raises:
            RuntimeError: gRPC can't listen a second time; all is as before.
        """
        before, listeners = self._server, self._listeners
        assert before is not None, "an open door changes"
        server = self._make_server(True)
        listeners.share(shared=True)
        try:
            own = self._bind(server, tls)
        except RuntimeError:
            listeners.share(shared=False)
            raise
        await server.start()
        self._server, self._listeners = server, own
        own.take_all()
        try:
            await asyncio.sleep(ACCEPTED_S)
        finally:  # also where the node ends meanwhile
            listeners.end()
            own.share(shared=False)
            self._retire(before, 0.0 if distrusted else RETIRED_S)

    async def close(self, grace_s: float) -> None:
        """Answer what is under way, for so long at most, and take nothing more."""
        self._listeners.forget()
        servers = [*self._retiring.values(), *([self._server] if self._server else [])]
        for task in self._retiring:
            task.cancel()
        # Without grace it is None: at 0.0 gRPC waits for what it has cancelled, and raises that cancellation.
        await asyncio.gather(*(server.stop(grace=grace_s or None) for server in servers))

    def _bind(self, server: aio.Server, tls: TlsFiles) -> Listeners:
        credentials = server_credentials(
            TlsIdentity(key_pem=tls.key_pem, chain_pem=tls.chain_pem, root_pem=tls.root_pem)
        )
        _, listeners = Listeners.opened_by(lambda: server.add_secure_port(str(self._address), credentials))
        return listeners

    def _retire(self, server: aio.Server, after_s: float) -> None:
        async def retire() -> None:
            await asyncio.sleep(after_s)
            await server.stop(grace=self._drain_s)

        task = asyncio.get_running_loop().create_task(retire())
        self._retiring[task] = server
        task.add_done_callback(self._retiring.pop)
