"""The version of the server and of the client, which are released together."""

__version__ = "0.1.0"
