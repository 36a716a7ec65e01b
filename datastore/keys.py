"""Where the key-encryption key comes from: a key file, a passphrase, the environment, a systemd credential.

The text is the same wherever it stands; words are separated by white space, `#` begins a comment:

    watchword-kek 1                                        # format
    id <16 hex characters>                                 # the key's fingerprint
    key <64 hex characters>                                # the key itself, or instead of it:
    argon2id <salt, 32 hex> <memory, KiB> <passes> <lanes> # how a passphrase becomes the key (RFC 9106)
"""

import os
from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from datastore.errors import DatastoreError, NotFound, UnusableKey
from datastore.files import Files, RealFiles
from datastore.wrapping import KEY_BYTES, DataKey, KeyEncryptionKey, KeyRing, Random, new_data_key, new_kek

__all__ = [
    "DataKey",
    "KeyEncryptionKey",
    "KeyRing",
    "Random",
    "key_text",
    "load_kek",
    "load_kek_file",
    "new_data_key",
    "new_kek",
    "parse_kek",
    "passphrase_text",
    "write_kek_file",
]

PASSPHRASE_VARIABLE = "WATCHWORD_PASSPHRASE"  # noqa: S105  # a name
PASSPHRASE_CREDENTIAL = "watchword.passphrase"  # noqa: S105  # a name
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"
TEXT_BYTES_MAX = 16 * 1024
ARGON2_MEMORY_KIB = 64 * 1024
ARGON2_PASSES = 3
ARGON2_LANES = 4
_ARGON2_BOUNDS = ((8 * 1024, 4 * 1024 * 1024), (1, 64), (1, 64))  # memory KiB, passes, lanes
_HEADING = "watchword-kek 1"

Passphrase = Callable[[], str]


def key_text(kek: KeyEncryptionKey) -> str:
    """A key as text, for a key file, the environment or a credential."""
    return (
        "# Key-encryption key of a Watchword cluster. Keep it secret, and away from the data and its backups.\n"
        f"{_HEADING}\nid {kek.id}\nkey {kek.key.hex()}\n"
    )


def passphrase_text(
    passphrase: str,
    random: Random,
    memory_kib: int = ARGON2_MEMORY_KIB,
    passes: int = ARGON2_PASSES,
    lanes: int = ARGON2_LANES,
) -> tuple[str, KeyEncryptionKey]:
    """A key made of a passphrase: the text that leads to it (which is no secret), and the key."""
    salt = random(16)
    kek = _from_passphrase(passphrase, salt, memory_kib, passes, lanes)
    text = f"{_HEADING}\nid {kek.id}\nargon2id {salt.hex()} {memory_kib} {passes} {lanes}\n"
    return "# How a passphrase becomes the key-encryption key of a Watchword cluster.\n" + text, kek


def write_kek_file(files: Files, path: str, text: str) -> None:
    """Puts a key text in a new file of mode 0600, synced."""
    file = files.create(path)
    try:
        file.append(text.encode())
        file.sync()
    finally:
        file.close()
    files.sync_directory(os.path.dirname(path) or ".")


def load_kek_file(files: Files, path: str, passphrase: Passphrase | None = None) -> KeyEncryptionKey:
    """The key of a key file; `passphrase` is asked where the file says how one becomes the key."""
    file = files.open(path, writable=False)
    try:
        data = file.read_at(0, TEXT_BYTES_MAX + 1)
    finally:
        file.close()
    return parse_kek(path, data, passphrase)


def load_kek(
    spec: str,
    files: Files | None = None,
    environment: Mapping[str, str] | None = None,
    passphrase: Passphrase | None = None,
) -> KeyEncryptionKey:
    """The key that `spec` points at: `file:PATH`, `environment:NAME` or `credential:NAME`.

    A passphrase, where one is needed, is asked of `passphrase`, else found in WATCHWORD_PASSPHRASE or the credential
    watchword.passphrase. Raises UnusableKey, NotFound or InsecurePermissions.
    """
    environment = os.environ if environment is None else environment
    passphrase = passphrase or (lambda: _find_passphrase(environment))
    kind, _, name = spec.partition(":")
    if kind == "file" and name:
        return load_kek_file(files or RealFiles(), name, passphrase)
    if kind == "environment" and name:
        if name not in environment:
            raise UnusableKey(spec, "the variable is not set; export it before starting")
        return parse_kek(spec, environment[name].encode(), passphrase)
    if kind == "credential" and name:
        return parse_kek(spec, _credential(environment, name), passphrase)
    raise UnusableKey(repr(spec), "write file:PATH, environment:NAME or credential:NAME")


def parse_kek(source: str, data: bytes, passphrase: Passphrase | None = None) -> KeyEncryptionKey:
    """The key that a key text holds or leads to. UnusableKey names the source, never the text."""
    try:
        lines = (line.partition("#")[0].split() for line in data.decode("ascii").splitlines())
        words = [word for line in lines for word in line]
    except UnicodeDecodeError as error:
        raise UnusableKey(source, "it is no key text; put back the file that was made with the cluster") from error
    match words:
        case ["watchword-kek", "1", "id", kek_id, "key", key] if len(data) <= TEXT_BYTES_MAX:
            kek = KeyEncryptionKey.of(_hex(source, key, KEY_BYTES))
            problem = "the key does not match its id: the text is damaged"
        case ["watchword-kek", "1", "id", kek_id, "argon2id", salt, *costs] if len(costs) == len(_ARGON2_BOUNDS):
            if passphrase is None:
                raise UnusableKey(source, "it needs a passphrase; give one")
            kek = _from_passphrase(passphrase(), _hex(source, salt, 16), *_costs(source, costs))
            problem = "the passphrase is wrong"
        case ["watchword-kek", version, *_] if version != "1":
            raise UnusableKey(source, "it is of a newer format; install a newer release")
        case _:
            raise UnusableKey(source, "it is no key text; put back the file that was made with the cluster")
    if kek.id != kek_id:
        raise UnusableKey(source, problem)
    return kek


def _from_passphrase(passphrase: str, salt: bytes, memory_kib: int, passes: int, lanes: int) -> KeyEncryptionKey:
    kdf = Argon2id(salt=salt, length=KEY_BYTES, iterations=passes, lanes=lanes, memory_cost=memory_kib)
    return KeyEncryptionKey.of(kdf.derive(passphrase.encode()))


def _hex(source: str, text: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length:
        raise UnusableKey(source, f"it does not hold {length} bytes of hex where it must; the text is damaged")
    return value


def _costs(source: str, words: list[str]) -> list[int]:
    costs = [int(word) if word.isdecimal() and len(word) < 10 else -1 for word in words]
    if any(not low <= cost <= high for cost, (low, high) in zip(costs, _ARGON2_BOUNDS, strict=True)):
        raise UnusableKey(source, "its Argon2id costs are out of bounds; the text is damaged")
    return costs


def _find_passphrase(environment: Mapping[str, str]) -> str:
    if PASSPHRASE_VARIABLE in environment:
        return environment[PASSPHRASE_VARIABLE]
    try:
        return _credential(environment, PASSPHRASE_CREDENTIAL).decode().rstrip("\n")
    except (DatastoreError, UnicodeDecodeError) as error:
        raise UnusableKey(
            "a passphrase",
            f"set {PASSPHRASE_VARIABLE}, or give the service the credential {PASSPHRASE_CREDENTIAL}",
        ) from error


def _credential(environment: Mapping[str, str], name: str) -> bytes:
    """A systemd credential. Its directory is the service manager's, which sets modes of its own."""
    directory = environment.get(CREDENTIALS_DIRECTORY)
    if directory is None:
        raise UnusableKey(f"credential:{name}", "the service has no credentials; set LoadCredential= in its unit")
    path = os.path.join(directory, os.path.basename(name))
    try:
        with open(path, "rb") as file:
            return file.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise NotFound(path, f"set LoadCredential={name}:FILE in the service's unit") from error
