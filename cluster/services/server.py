"""The gRPC server of a node: the three services, health and reflection, behind the gate and mutual TLS."""

from dataclasses import dataclass, field
from typing import Final

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cluster.services import limits
from cluster.services.gate import Gate
from watchword.v1 import (
    administration_pb2,
    administration_pb2_grpc,
    authentication_pb2,
    authentication_pb2_grpc,
    cluster_pb2,
    cluster_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
)

# "" is the node as a whole, which is what a load balancer asks for.
HEALTH_NAMES: Final = (
    "",
    *(
        module.DESCRIPTOR.services_by_name[name].full_name
        for module, name in (
            (authentication_pb2, "Authentication"),
            (administration_pb2, "Administration"),
            (cluster_pb2, "Cluster"),
            (events_pb2, "Events"),
        )
    ),
)

OPTIONS: Final = (
    ("grpc.max_receive_message_length", limits.MESSAGE_RECEIVED_BYTES_MAX),
    ("grpc.max_send_message_length", limits.MESSAGE_SENT_BYTES_MAX),
    ("grpc.max_metadata_size", limits.METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", limits.METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", limits.STREAMS_PER_CONNECTION_MAX),
    # Who connects and does not say hello is not waited for, as gRPC would, for two minutes.
    ("grpc.server_handshake_timeout_ms", limits.HANDSHAKE_TIMEOUT_MS),
    # Connections are renewed now and then, in good order: so a client's certificate that has ended is noticed.
    ("grpc.max_connection_age_ms", limits.CONNECTION_AGE_MS),
    ("grpc.max_connection_age_grace_ms", limits.CONNECTION_AGE_GRACE_MS),
    # A client that vanished holds its streams, and their places, no longer than this.
    ("grpc.keepalive_time_ms", limits.KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", limits.KEEPALIVE_TIMEOUT_MS),
    # Clients find out by pings that a node is gone, also while they ask nothing.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", limits.PING_INTERVAL_MS_MIN),
)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """PEM: the node's key, its certificate with those above it, and the root that client certificates lead to."""

    key_pem: bytes = field(repr=False)
    chain_pem: bytes
    root_pem: bytes


def server_credentials(identity: TlsIdentity) -> grpc.ServerCredentials:
    """Mutual TLS: a client without a certificate that leads to the root is refused in the handshake.

    Not dynamic_ssl_server_credentials: where several handshakes meet, gRPC's core uses what another thread has freed,
    and the process dies (grpc/grpc#36693). Another certificate means another server (cluster.node.front_door).
    """
    return grpc.ssl_server_credentials(
        [(identity.key_pem, identity.chain_pem)], root_certificates=identity.root_pem, require_client_auth=True
    )


def build_server(
    *,
    gate: Gate,
    authentication: authentication_pb2_grpc.AuthenticationServicer,
    administration: administration_pb2_grpc.AdministrationServicer,
    cluster: cluster_pb2_grpc.ClusterServicer,
    events: events_pb2_grpc.EventsServicer,
    health_servicer: health.aio.HealthServicer,
    shares_port: bool = False,
    connections_max: int = limits.CONNECTIONS_MAX,
) -> aio.Server:
    """A server without a port, not started. Add one with `server_credentials`, then start it, in the running loop.

    `shares_port`: the port may be that of another server, which allows it. Otherwise a port in use is an error: two
    nodes on one port would share its calls.  `connections_max`: what comes beyond it, also before TLS, is closed.
    """
    options = (
        *OPTIONS,
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_allowed_incoming_connections", connections_max),
    )
    server = aio.server(interceptors=(gate,), options=options)
    authentication_pb2_grpc.add_AuthenticationServicer_to_server(authentication, server)
    administration_pb2_grpc.add_AdministrationServicer_to_server(administration, server)
    cluster_pb2_grpc.add_ClusterServicer_to_server(cluster, server)
    events_pb2_grpc.add_EventsServicer_to_server(events, server)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    reflection.enable_server_reflection(
        (*(name for name in HEALTH_NAMES if name), health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    return server


async def new_health_servicer() -> health.aio.HealthServicer:
    """One that says NOT_SERVING, until the node knows better."""
    servicer = health.aio.HealthServicer()
    await set_serving(servicer, serving=False)
    return servicer


async def set_serving(health_servicer: health.aio.HealthServicer, *, serving: bool) -> None:
    """What health checks are told, of the node and each service."""
    status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
    for name in HEALTH_NAMES:
        await health_servicer.set(name, status)
