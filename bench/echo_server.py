"""A gRPC server that does nothing: mutual TLS, one unary method, an empty message in and out.

python -m bench.echo_server --port PORT --directory DIR      (DIR holds ca.pem, node.pem, node.key)
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from grpc import aio

from bench.ports import LOOPBACK
from cluster.node.bootstrap import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from cluster.services.server import OPTIONS, TlsIdentity, server_credentials

SERVICE, METHOD = "watchword.bench.Echo", "Empty"


async def echo(request: Empty, _: aio.ServicerContext[Any, Any]) -> Empty:
    return request


async def serve(port: int, directory: Path) -> None:
    server = aio.server(options=OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(echo, Empty.FromString, Empty.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    identity = TlsIdentity(
        key_pem=(directory / KEY_FILE).read_bytes(),
        chain_pem=(directory / CERTIFICATE_FILE).read_bytes(),
        root_pem=(directory / CA_FILE).read_bytes(),
    )
    server.add_secure_port(f"{LOOPBACK}:{port}", server_credentials(identity))
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.directory))


if __name__ == "__main__":
    main()
