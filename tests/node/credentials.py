"""Certificates of one cluster for tests, and TLS contexts of its nodes."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cluster.node.certificates import Credential, issue_node, make_issuing, make_root, node_identity
from cluster.node.clock import system_wall_ms


@dataclass(frozen=True)
class TestCluster:
    """A root and an issuing authority, valid from `now_ms`."""

    __test__ = False

    cluster_id: str
    root: Credential
    issuing: Credential

    @classmethod
    def make(cls, cluster_id: str, now_ms: int | None = None) -> TestCluster:
        now_ms = system_wall_ms() if now_ms is None else now_ms
        root = make_root(cluster_id, now_ms)
        return cls(cluster_id, root, make_issuing(root, cluster_id, now_ms))

    def node(self, member_id: str, now_ms: int | None = None) -> Credential:
        now_ms = system_wall_ms() if now_ms is None else now_ms
        return issue_node(self.issuing, node_identity(self.cluster_id, member_id), ["127.0.0.1"], now_ms)

    def contexts(self, credential: Credential) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        from cluster.node.identity import peer_contexts

        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            for file, contents in (
                ("ca.pem", self.root.chain_pem),
                ("node.pem", credential.chain_pem),
                ("node.key", credential.key_pem),
            ):
                (directory / file).write_bytes(contents)
            return peer_contexts(directory / "ca.pem", directory / "node.pem", directory / "node.key")
