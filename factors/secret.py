"""Shared secrets of OATH tokens: Base32 as people paste it, and the provisioning URI that authenticators scan."""

import base64
import binascii
import hashlib
from typing import Final

import pyotp

from factors.otp import Algorithm, Otp

SECRET_BYTES_MIN: Final = 10  # shorter than RFC 4226, R6 (16 bytes) asks for, since tokens with 80 bits are still about
SECRET_BYTES_MAX: Final = 128
_TEXT_CHARACTERS_MAX: Final = 1024

_HASHES: Final = {Algorithm.SHA1: hashlib.sha1, Algorithm.SHA256: hashlib.sha256, Algorithm.SHA512: hashlib.sha512}
_IGNORED: Final = dict.fromkeys(map(ord, " \t\r\n-="))


class InvalidSecret(ValueError):
    """The text is no usable secret; the message says why, and never repeats it."""


def parse_base32(text: str) -> bytes:
    """The secret's bytes. Padding, case, spaces and hyphens are ignored (RFC 4648, section 6).

    Raises InvalidSecret for other characters, an impossible length, or fewer than SECRET_BYTES_MIN or more than
    SECRET_BYTES_MAX bytes.
    """
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise InvalidSecret(f"the secret is too long: at most {SECRET_BYTES_MAX} bytes")
    # Bytes have an upper case for a-z only, where text would turn some other letters into ASCII ones.
    compact = text.translate(_IGNORED).encode().upper()
    try:
        secret = base64.b32decode(compact + b"=" * (-len(compact) % 8))
    except binascii.Error:
        # The cause is left out: it can hold the text.
        raise InvalidSecret("the secret is not Base32: it consists of the letters A-Z and the digits 2-7") from None
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise InvalidSecret(f"the secret has {len(secret)} bytes: {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are allowed")
    return secret


def to_base32(secret: bytes) -> str:
    """Upper-case Base32 without padding, as authenticators show it."""
    return base64.b32encode(secret).decode("ascii").rstrip("=")


def totp_uri(otp: Otp, *, period_s: int, account: str, issuer: str) -> str:
    """The `otpauth://totp/…` URI. It holds the secret."""
    token = pyotp.TOTP(
        to_base32(otp.secret),
        digits=otp.digits,
        digest=_HASHES[otp.algorithm],
        name=account,
        issuer=issuer,
        interval=period_s,
    )
    return token.provisioning_uri()


def hotp_uri(otp: Otp, *, counter: int, account: str, issuer: str) -> str:
    """The `otpauth://hotp/…` URI; `counter` is the one of the next code. It holds the secret."""
    token = pyotp.HOTP(
        to_base32(otp.secret),
        digits=otp.digits,
        digest=_HASHES[otp.algorithm],
        name=account,
        issuer=issuer,
        initial_count=counter,
    )
    return token.provisioning_uri()
