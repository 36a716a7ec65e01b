"""The fake nodes of the client's tests, for the command line."""

from tests.client.conftest import authority, fake_cluster

__all__ = ["authority", "fake_cluster"]
