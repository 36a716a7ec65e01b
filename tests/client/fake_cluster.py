"""Nodes that answer what a test tells them to, over real mutual TLS, and remember what they were asked."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from cluster.services.status import CallError
from tests.services.certificates import Authority, Leaf, client_uri
from watchword.profile import Profile, load_profile
from watchword.v1 import administration_pb2, authentication_pb2, cluster_pb2, events_pb2

# What a node does with one VerifyStream: messages come, answers go.
Streaming = Callable[[Iterator[authentication_pb2.VerifyBatch], grpc.ServicerContext], Iterator[Message]]
Answer = Message | CallError | Callable[[Any], Message] | grpc.StatusCode
HANG = "hang"


class FakeNode(grpc.GenericRpcHandler):
    """`answers` holds a list a method: each call takes the next, and the last one stays.

    `streaming` answers streams, `batches` is what came on them, and `streams` how many there were.
    """

    def __init__(self, authority: Authority) -> None:
        self.answers: dict[str, list[Answer | str]] = {}
        self.requests: list[tuple[str, Any]] = []
        self.streaming: Streaming | None = None
        self.batches: list[authentication_pb2.VerifyBatch] = []
        self.streams = 0
        self._released = threading.Event()
        self._methods = {
            f"/{service.full_name}/{method.name}": method
            for module in (authentication_pb2, administration_pb2, cluster_pb2, events_pb2)
            for service in module.DESCRIPTOR.services_by_name.values()
            for method in service.methods
        }
        leaf = authority.leaf("watchword://c0/node/d0")
        credentials = grpc.ssl_server_credentials(
            [(leaf.key_pem, leaf.certificate_pem)], authority.certificate_pem, require_client_auth=True
        )
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self,))
        self.endpoint = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = self._methods[handler_call_details.method]
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(
                self._stream, authentication_pb2.VerifyBatch.FromString, lambda message: message.SerializeToString()
            )

        if method.server_streaming:

            def answers(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
                self.requests.append((method.name, request))
                for each in self.answers[method.name]:
                    if isinstance(each, CallError):
                        context.abort_with_status(rpc_status.to_status(Status.FromString(each.status_bytes())))
                    assert isinstance(each, Message)
                    yield each

            return grpc.unary_stream_rpc_method_handler(
                answers, GetMessageClass(method.input_type).FromString, lambda message: message.SerializeToString()
            )

        def answer(request: Any, context: grpc.ServicerContext) -> Message:
            self.requests.append((method.name, request))
            remaining = self.answers[method.name]
            chosen = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            if chosen == HANG:
                self._released.wait()
                context.abort(grpc.StatusCode.CANCELLED, "released")
            if isinstance(chosen, CallError):
                context.abort_with_status(rpc_status.to_status(Status.FromString(chosen.status_bytes())))
            if isinstance(chosen, grpc.StatusCode):
                context.abort(chosen, "")
            return chosen(request) if callable(chosen) else chosen

        return grpc.unary_unary_rpc_method_handler(
            answer, GetMessageClass(method.input_type).FromString, lambda message: message.SerializeToString()
        )

    def _stream(
        self, batches: Iterator[authentication_pb2.VerifyBatch], context: grpc.ServicerContext
    ) -> Iterator[Message]:
        self.streams += 1
        if self.streaming is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

        def remembered() -> Iterator[authentication_pb2.VerifyBatch]:
            for batch in batches:
                self.batches.append(batch)
                yield batch

        yield from self.streaming(remembered(), context)

    def wait_until_released(self) -> None:
        """As a node that hangs does, to the end of the test."""
        self._released.wait()

    def asked(self, method: str) -> list[Any]:
        return [request for name, request in self.requests if name == method]

    def stop(self) -> None:
        self._released.set()
        self._server.stop(None).wait()


def write_profile(
    directory: Path, authority: Authority, endpoints: Sequence[str], leaf: Leaf | None = None, **fields: str
) -> Path:
    """A profile and the files that it names, with paths relative to it."""
    directory.mkdir(parents=True, exist_ok=True)
    leaf = leaf or authority.leaf(client_uri("alice"))
    (directory / "ca.pem").write_bytes(authority.certificate_pem)
    (directory / "client.pem").write_bytes(leaf.certificate_pem)
    (directory / "client.key").write_bytes(leaf.key_pem)
    named = {"ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key", **fields}
    lines = [f"endpoints = {list(endpoints)}", *(f'{name} = "{value}"' for name, value in named.items())]
    path = directory / "client.toml"
    path.write_text("\n".join(lines))
    return path


class FakeCluster:
    """Some nodes under one authority."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self.authority = authority
        self.nodes: list[FakeNode] = []
        self._directory = directory

    def start(self, count: int) -> list[FakeNode]:
        started = [FakeNode(self.authority) for _ in range(count)]
        self.nodes += started
        return started

    def profile_path(self, *more: str, leaf: Leaf | None = None) -> Path:
        endpoints = [*(node.endpoint for node in self.nodes), *more]
        return write_profile(self._directory, self.authority, endpoints, leaf)

    def profile(self, *more: str) -> Profile:
        return load_profile(self.profile_path(*more))

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
