"""What a field of a request may hold, and the form in which the cluster keeps it.

Each function returns what is accepted, or raises CallError (INVALID_ARGUMENT): it names the field and never quotes it.
"""

import re
import unicodedata
from typing import Final

from cluster.services import limits
from cluster.services.status import invalid

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
_NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_NODE_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", "0:0:0:0:0:0:0:0"})  # noqa: S104 - refused, not listened on
_CLIENT_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_LEASE_NAME = re.compile(r"[A-Za-z0-9._@/-]{1,64}")
# Format characters that names of today use: joiners (also within emoji), and the tags within flags.
_FORMAT_ALLOWED: Final = frozenset({"\u200c", "\u200d", *(chr(point) for point in range(0xE0020, 0xE0080))})
# Control, format and unpaired surrogates; line and paragraph separators. They are not seen, or change what is.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def request_id(value: str) -> str:
    return visible_ascii("request_id", value, limits.REQUEST_ID_CHARACTERS_MAX)


def token_id(value: str) -> str:
    return visible_ascii("token_id", value, limits.TOKEN_ID_CHARACTERS_MAX)


def client_name(value: str) -> str:
    if not _CLIENT_NAME.fullmatch(value):
        raise invalid("name", "must be 1 to 64 letters, digits or any of . _ @ -")
    return value


def lease_name(value: str) -> str:
    if not _LEASE_NAME.fullmatch(value):
        raise invalid("name", "must be 1 to 64 letters, digits or any of . _ @ / -")
    return value


def node_name(value: str) -> str:
    if not _NODE_NAME.fullmatch(value):
        raise invalid("name", "must be 1 to 64 letters, digits or any of . _ : -, the first a letter or a digit")
    return value


def node_address(field: str, value: str) -> tuple[str, str]:
    """HOST:PORT by which others reach a node, and the host alone."""
    match = _NODE_ADDRESS.fullmatch(bounded(field, value, limits.MEMBER_ADDRESS_BYTES_MAX))
    if match is None or not 1 <= int(match["port"]) <= 65_535:
        raise invalid(field, "must be HOST:PORT, or [ADDRESS]:PORT for IPv6")
    host = match["v6"] or match["host"]
    if host in _EVERYWHERE:
        raise invalid(field, "must be an address by which others reach the node, and not all of this machine's")
    return value, host


def visible_ascii(field: str, value: str, characters_max: int) -> str:
    if len(value) > characters_max or not _VISIBLE_ASCII.fullmatch(value):
        raise invalid(field, f"must be 1 to {characters_max} visible ASCII characters")
    return value


def user_id(value: str) -> str:
    """Normalised: two spellings of one name are one user."""
    if not value:
        raise invalid("user_id", "must not be empty")
    return name_part("user_id", value)


def name_part(field: str, value: str) -> str:
    """A name, or the beginning of one, normalised; it may be empty."""
    shown_text(field, value, limits.USER_ID_BYTES_MAX)
    normalised = normalise(value)
    # Folding may lengthen (one ligature becomes three letters), and what is kept has the same bound.
    if len(normalised.encode()) > limits.USER_ID_BYTES_MAX:
        raise invalid(field, f"must be at most {limits.USER_ID_BYTES_MAX} bytes of UTF-8 after case folding")
    return normalised


def normalise(name: str) -> str:
    """NFC of the case-folded name, a form that stays as it is when it is normalised again (Unicode 3.13, D145)."""
    folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return unicodedata.normalize("NFC", folded)


def shown_text(field: str, value: str, bytes_max: int) -> str:
    """Text that a person may read: UTF-8, without control and other unseen characters; it may be empty."""
    bounded(field, value, bytes_max)
    if not value.isprintable():
        for character in value:
            if unicodedata.category(character) in _REFUSED_CATEGORIES and character not in _FORMAT_ALLOWED:
                raise invalid(field, "must not contain control or invisible characters")
    return value


def bounded(field: str, value: str, bytes_max: int) -> str:
    """Text without unpaired surrogates; the number of characters is looked at first, so that nothing long is copied."""
    try:
        fits = len(value) <= bytes_max and len(value.encode()) <= bytes_max
    except UnicodeEncodeError:
        raise invalid(field, "must be text that UTF-8 can hold") from None
    if not fits:
        raise invalid(field, f"must be at most {bytes_max} bytes of UTF-8")
    return value


def passcode(field: str, value: str) -> str:
    """What a person typed, whatever it is: whether it is a code is for the state to say, and to count."""
    if not value:
        raise invalid(field, "must not be empty")
    return bounded(field, value, limits.PASSCODE_BYTES_MAX)


def within(field: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise invalid(field, f"must be {least:,} to {most:,}")
    return value
