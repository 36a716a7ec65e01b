"""The files that a client proves itself with, read and checked before anything is sent."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from watchword.errors import CredentialsError
from watchword.profile import Profile

PEM_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM bytes: the CA's certificates, ours with its chain, and our private key."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def load_credentials(profile: Profile, now: datetime) -> Credentials:
    """Read what the profile names; `CredentialsError` names the file that cannot be used, and why.

    `now` has a time zone.
    """
    credentials = Credentials(
        ca=_read(profile.ca_file, "CA's certificate"),
        certificate=_read(profile.certificate_file, "certificate"),
        key=_read(profile.key_file, "key"),
    )
    _check(_certificates(credentials.ca, profile.ca_file), profile.ca_file, now)
    _check(_certificates(credentials.certificate, profile.certificate_file)[:1], profile.certificate_file, now)
    _check_key(credentials, profile)
    return credentials


_NAME_ANOTHER = "correct the profile, or ask an operator for a new certificate"


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(PEM_BYTES_MAX + 1)
    except FileNotFoundError:
        raise CredentialsError(f"the {what} {path} that the profile names is not there", advice=_NAME_ANOTHER) from None
    except OSError as error:
        raise CredentialsError(f"the {what} {path} cannot be read ({error.strerror})", advice=_NAME_ANOTHER) from error
    if len(data) > PEM_BYTES_MAX:
        raise CredentialsError(f"the {what} {path} is larger than {PEM_BYTES_MAX} bytes", advice=_NAME_ANOTHER)
    return data


def _certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise CredentialsError(f"{path} holds no certificate in PEM", advice=_NAME_ANOTHER) from error


def _check(certificates: list[x509.Certificate], path: Path, now: datetime) -> None:
    """At least one of them has to be valid now."""
    assert now.tzinfo is not None, "certificates' times have a zone"
    assert certificates, "an empty file is refused when it is read"
    last = max(certificates, key=lambda certificate: certificate.not_valid_after_utc)
    if last.not_valid_after_utc < now:
        raise CredentialsError(
            f"the certificate {path} expired on {_day(last.not_valid_after_utc)}",
            advice="ask an operator for a new one, and check this machine's clock",
        )
    if all(certificate.not_valid_before_utc > now for certificate in certificates):
        first = min(certificate.not_valid_before_utc for certificate in certificates)
        raise CredentialsError(
            f"the certificate {path} is valid from {_day(first)} on", advice="check this machine's clock"
        )


def _check_key(credentials: Credentials, profile: Profile) -> None:
    """gRPC takes any key, and fails later without a word about it."""
    try:
        key = serialization.load_pem_private_key(credentials.key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialsError(
            f"{profile.key_file} holds no unencrypted private key in PEM", advice=_NAME_ANOTHER
        ) from error
    certificate = _certificates(credentials.certificate, profile.certificate_file)[0]
    if key.public_key() != certificate.public_key():
        raise CredentialsError(
            f"the key {profile.key_file} does not belong to the certificate {profile.certificate_file}",
            advice=_NAME_ANOTHER,
        )


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
