"""Who calls: the one `watchword://` URI among the subject alternative names of a client certificate.

TLS has checked the certificate by then, so the name can be believed; what it may do is not in the certificate.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cluster.services.status import unauthenticated

SCHEME = b"watchword://"
# A client whose name was revoked before has the number of its generation behind the name.
_IDENTITY = re.compile(
    r"watchword://(?P<cluster>[0-9a-f]{32})/"
    r"(?:(?P<node>node)/(?P<member>[A-Za-z0-9._@-]{1,64})"
    r"|client/(?P<name>[A-Za-z0-9._@-]{1,64})(?:/(?:[2-9]|[1-9][0-9]{1,3}))?"
    r"|join/(?P<invitation>[0-9a-f]{32}))"
)


class Kind(StrEnum):
    NODE = "node"
    CLIENT = "client"
    JOIN = "join"  # a node that is to be, by an invitation's id


@dataclass(frozen=True, slots=True)
class Identity:
    """What a certificate of this cluster says; `uri` is the form that the state knows."""

    kind: Kind
    name: str
    uri: str


def certificate_identity(auth_context: Mapping[str, Iterable[bytes]], cluster_id: str) -> Identity:
    """The identity in a gRPC authentication context.

    Raises:
        CallError: UNAUTHENTICATED where there is none, more than one, or one of another cluster.
    """
    uris = [uri for uri in auth_context.get("peer_uri", ()) if uri.startswith(SCHEME)]
    if len(uris) != 1:
        raise unauthenticated("the certificate must name exactly one watchword:// identity")
    match = _IDENTITY.fullmatch(uris[0].decode("ascii", errors="replace"))
    if match is None:
        raise unauthenticated("the identity in the certificate is malformed")
    if match["cluster"] != cluster_id:
        raise unauthenticated("the certificate belongs to another cluster")
    kind = Kind.NODE if match["node"] else Kind.JOIN if match["invitation"] else Kind.CLIENT
    return Identity(kind=kind, name=match["member"] or match["invitation"] or match["name"], uri=match[0])
