"""The first state of a cluster, from which every node's first data file is written."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

import msgspec

from cluster.state.apply import Position, State
from cluster.state.records import (
    REQUEST_KEY_BYTES,
    ClusterIdentity,
    IssuingKey,
    Member,
    RequestKey,
    Role,
    Roles,
    Settings,
    settings_out_of_range,
)
from cluster.state.store import IDENTITY, ISSUING_KEY, MEMBERS, REQUEST_KEY, ROLES, SETTINGS, SINGLE

GENESIS_INDEX: Final = 1
GENESIS_TERM: Final = 0
UNFILLED_INDEX: Final = 0
DIGEST_BYTES: Final = 32


def genesis(
    *,
    cluster: ClusterIdentity,
    members: Mapping[str, Member],
    roles: Mapping[str, Iterable[Role]],
    issuing_key: IssuingKey,
    digest_key: bytes,
    settings: Settings | None = None,
) -> State:
    """The state at index 1, term 0, stamped `cluster.created_ms`.

    `members` by member id, `roles` by certificate identity (a URI); `digest_key` is REQUEST_KEY_BYTES random bytes.
    """
    settings = settings or Settings()
    assert len(digest_key) == REQUEST_KEY_BYTES, f"the digest key has {REQUEST_KEY_BYTES} bytes"
    assert settings_out_of_range(settings) is None, f"setting {settings_out_of_range(settings)} is out of its range"
    encode = msgspec.msgpack.Encoder().encode
    records = [
        (IDENTITY.name, SINGLE, encode(cluster)),
        (ISSUING_KEY.name, SINGLE, encode(issuing_key)),
        (REQUEST_KEY.name, SINGLE, encode(RequestKey(digest_key))),
        (SETTINGS.name, SINGLE, encode(settings)),
        *((MEMBERS.name, member_id.encode(), encode(member)) for member_id, member in members.items()),
        *((ROLES.name, identity.encode(), encode(Roles(tuple(sorted(set(own)))))) for identity, own in roles.items()),
    ]
    records.sort()
    first = sha256(encode(records)).digest()
    return State.load(Position(GENESIS_INDEX, GENESIS_TERM, cluster.created_ms, first), records)


def unfilled(*, cluster: ClusterIdentity, members: Mapping[str, Member], root_certificate: bytes) -> State:
    """What a node that joins starts from: at index 0, which no log of a cluster has, so that it is filled by a peer.

    It knows who its peers are, and nothing else: no keys, no clients, no users. Nothing is served from it.
    """
    encode = msgspec.msgpack.Encoder().encode
    records = [
        (IDENTITY.name, SINGLE, encode(cluster)),
        (ISSUING_KEY.name, SINGLE, encode(IssuingKey(b"", b"", root_certificate))),
        (REQUEST_KEY.name, SINGLE, encode(RequestKey(bytes(REQUEST_KEY_BYTES)))),
        (SETTINGS.name, SINGLE, encode(Settings())),
        *((MEMBERS.name, member_id.encode(), encode(member)) for member_id, member in members.items()),
    ]
    return State.load(Position(UNFILLED_INDEX, 0, 0, bytes(DIGEST_BYTES)), sorted(records))
