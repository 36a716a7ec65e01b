"""A client's files: its key, made here; its certificate; and a profile that names both."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from watchword.errors import CredentialsError, InvalidArgument

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
PROFILE = "client.toml"
CA = "ca.pem"


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """A directory in the making: the key is in it, the rest comes with `finish`."""

    making: Path
    directory: Path
    name: str
    request: bytes  # PKCS #10, PEM

    def finish(self, chain: bytes, root: bytes, endpoints: Sequence[str]) -> None:
        """Write the rest, and give the directory its name as the last step."""
        _write(self.making / f"{self.name}.pem", chain)
        _write(self.making / CA, root)
        _write(self.making / PROFILE, profile_text(endpoints, self.name).encode())
        _sync(self.making)
        with contextlib.suppress(FileNotFoundError):
            self.directory.rmdir()  # an empty one stood there
        self.making.rename(self.directory)
        _sync(self.directory.parent)


@contextlib.contextmanager
def making_files(directory: Path, name: str) -> Iterator[ClientFiles]:
    """Make the key, before anything is asked: what cannot be kept is not asked for.

    Raises:
        InvalidArgument: the directory cannot be made, or holds something.
    """
    directory = directory.absolute()
    if _NAME.fullmatch(name) is None:
        raise InvalidArgument(
            "a client's name is 1 to 64 letters, digits or any of . _ @ -", field="name", advice="choose such a name"
        )
    if f"{name}.pem" == CA:
        raise InvalidArgument("a client ca would overwrite ca.pem", field="name", advice="choose another name")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidArgument(
            f"{directory} is there and not empty", field="out", advice="name a new directory with --out DIR"
        )
    making = directory.with_name(f".{directory.name}.making-{os.getpid()}")
    try:
        making.mkdir(mode=0o700, parents=False)
        key = ec.generate_private_key(ec.SECP256R1())
        _write(making / f"{name}.key", key_pem(key))
        yield ClientFiles(making, directory, name, _signed_request(key))
    except OSError as error:
        raise InvalidArgument(
            f"{directory} cannot be written ({error.strerror})", field="out", advice="choose another with --out DIR"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def request_of(key_file: Path) -> bytes:
    """A signing request of the key that a profile names."""
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise CredentialsError(f"{key_file} holds no private key that can be read", advice="correct the profile") from (
            error
        )
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CredentialsError(
            f"the key {key_file} is of a kind that is not signed", advice="ask for a new certificate"
        )
    return _signed_request(key)


def replace_certificate(file: Path, chain: bytes) -> None:
    """In one step: whoever reads the file has the old certificate or the new one."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        _write(beside, chain)
        beside.replace(file)
        _sync(file.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise CredentialsError(
            f"{file} cannot be replaced ({error.strerror})", advice="make its directory writable, and repeat"
        ) from error


def profile_text(endpoints: Sequence[str], name: str) -> str:
    """Names relative to the profile, so that the directory can be taken elsewhere."""
    fields = {"endpoints": list(endpoints), "ca_file": CA, "certificate_file": f"{name}.pem", "key_file": f"{name}.key"}
    return "".join(f"{field} = {msgspec.json.encode(value).decode()}\n" for field, value in fields.items())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _signed_request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "watchword client")])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, contents: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
