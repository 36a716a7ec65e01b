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


class _Totp(pyotp.TOTP):
    min_secret_length_bits = 8 * SECRET_BYTES_MIN


class _Hotp(pyotp.HOTP):
    min_secret_length_bits = 8 * SECRET_BYTES_MIN


def totp_uri(otp: Otp, *, period_s: int, account: str, issuer: str) -> str:
    """The `otpauth://totp/…` URI. It holds the secret."""
    digest = _HASHES[otp.algorithm]
    token = _Totp(to_base32(otp.secret), digits=otp.digits, digest=digest, name=account, issuer=issuer)
    token.interval = period_s  # pyotp's constructor takes 120 s at most, and old hardware tokens have more
    return token.provisioning_uri()


def hotp_uri(otp: Otp, *, counter: int, account: str, issuer: str) -> str:
    """The `otpauth://hotp/…` URI; `counter` is the one of the next code. It holds the secret."""
    token = _Hotp(
        to_base32(otp.secret),
        digits=otp.digits,
        digest=_HASHES[otp.algorithm],
        name=account,
        issuer=issuer,
        initial_count=counter,
    )
    return token.provisioning_uri()
