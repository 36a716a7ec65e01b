"""Page tokens: after which key the next page begins."""

from base64 import b64decode, urlsafe_b64encode

from cluster.services import limits
from cluster.services.status import invalid


def encode_page_token(after: str) -> str:
    return urlsafe_b64encode(after.encode()).decode("ascii")


def decode_page_token(token: str) -> str:
    """The key after which the page begins; empty for the first page. Raises CallError (INVALID_ARGUMENT)."""
    malformed = invalid("page_token", "must be the next_page_token of an earlier answer")
    if len(token) > limits.PAGE_TOKEN_CHARACTERS_MAX:
        raise malformed
    try:
        return b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise malformed from None
