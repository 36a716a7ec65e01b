"""A joining token: all that a new node needs to ask a cluster to take it in, as one printable string.

    wwjoin1-<base64url, without padding, of: a checksum of 4 bytes, then compressed JSON>

Who joins proves it by the certificate in it, whose only right is to join; that it is used once, the cluster sees to.
"""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from watchword.credentials import Credentials
from watchword.errors import InvalidArgument
from watchword.profile import ENDPOINTS_MAX, checked_endpoint

PREFIX = "wwjoin1-"
TOKEN_CHARACTERS_MAX = 16 * 1024
_JSON_BYTES_MAX = 64 * 1024
_CHECKSUM_BYTES = 4


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`certificate` is the chain; all three in PEM. `kek_id` names the key-encryption key of the cluster."""

    cluster_id: str
    endpoints: tuple[str, ...]
    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    kek_id: str
    expires_ms: int

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.ca, self.certificate, self.key)


def encode(token: JoinToken) -> str:
    document = {
        "cluster": token.cluster_id,
        "endpoints": list(token.endpoints),
        "ca": token.ca.decode(),
        "certificate": token.certificate.decode(),
        "key": token.key.decode(),
        "secret": token.secret.hex(),
        "kek": token.kek_id,
        "expires": token.expires_ms,
    }
    packed = zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 9)
    return PREFIX + base64.urlsafe_b64encode(_checksum(packed) + packed).decode().rstrip("=")


def decode(text: str) -> JoinToken:
    """The token in a string; `InvalidArgument`, which does not repeat it, where it is none or was cut."""
    text = "".join(text.split())
    if not text.startswith(PREFIX) or len(text) > TOKEN_CHARACTERS_MAX:
        raise _wrong(f"is no joining token, which begins with {PREFIX}")
    body = text[len(PREFIX) :]
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise _wrong("is damaged") from None
    packed = data[_CHECKSUM_BYTES:]
    if _checksum(packed) != data[:_CHECKSUM_BYTES]:
        raise _wrong("is damaged, or not whole")
    return _token(_unpacked(packed))


def _unpacked(packed: bytes) -> Mapping[str, Any]:
    try:
        inflater = zlib.decompressobj()
        document = json.loads(inflater.decompress(packed, _JSON_BYTES_MAX))
    except (zlib.error, ValueError):
        raise _wrong("is damaged") from None
    return document if isinstance(document, dict) else {}


def _token(document: Mapping[str, Any]) -> JoinToken:
    match document:
        case {
            "cluster": str(cluster_id),
            "endpoints": [*endpoints],
            "ca": str(ca),
            "certificate": str(certificate),
            "key": str(key),
            "secret": str(secret),
            "kek": str(kek_id),
            "expires": int(expires_ms),
        } if 1 <= len(endpoints) <= ENDPOINTS_MAX:
            try:
                secret_bytes = bytes.fromhex(secret)
            except ValueError:
                raise _wrong("is damaged") from None
            return JoinToken(
                cluster_id,
                tuple(checked_endpoint(endpoint) for endpoint in endpoints),
                ca.encode(),
                certificate.encode(),
                key.encode(),
                secret_bytes,
                kek_id,
                expires_ms,
            )
        case _:
            raise _wrong("is of another version")


def _checksum(packed: bytes) -> bytes:
    return sha256(packed).digest()[:_CHECKSUM_BYTES]


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"the token {what}", field="token", advice="copy the whole line that `watchword node invite` printed"
    )
