"""A key-encryption key (KEK) wraps random data keys; files are sealed under data keys.

Every file carries its data key, wrapped, so that whoever holds the KEK reads any file, also one sealed before a data
key was exchanged. A KEK's id is its fingerprint: a wrong key, or a wrong passphrase, has another id and is told apart
from damage.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

Random = Callable[[int], bytes]  # n -> n random bytes; `os.urandom` in production

KEY_BYTES = 32
KEY_ID_BYTES = 8
NONCE_BYTES = 12
TAG_BYTES = 16
_WRAP_LABEL = b"watchword/wrap/1"


def derive(key: bytes, salt: bytes, info: bytes, length: int = KEY_BYTES) -> bytes:
    """HKDF-SHA-256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)


@dataclass(frozen=True, slots=True)
class KeyEncryptionKey:
    """32 bytes; the id is derived from them (16 hex characters)."""

    id: str
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, key: bytes) -> "KeyEncryptionKey":
        assert len(key) == KEY_BYTES, "a key-encryption key has 32 bytes"
        return cls(derive(key, b"", b"watchword/kek-id/1", KEY_ID_BYTES).hex(), key)


def new_kek(random: Random) -> KeyEncryptionKey:
    """A random key-encryption key."""
    return KeyEncryptionKey.of(random(KEY_BYTES))


@dataclass(frozen=True, slots=True)
class DataKey:
    """32 random bytes under a random id (16 hex characters)."""

    id: str
    key: bytes = field(repr=False)


def new_data_key(random: Random) -> DataKey:
    """A random data key."""
    return DataKey(random(KEY_ID_BYTES).hex(), random(KEY_BYTES))


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """Data key `key_id` under KEK `kek_id`: nonce (12), ciphertext (32), tag (16)."""

    kek_id: str
    key_id: str
    sealed: bytes


def _wrap_context(kek_id: str, key_id: str) -> bytes:
    return b"\0".join((_WRAP_LABEL, kek_id.encode(), key_id.encode()))


def wrap(kek: KeyEncryptionKey, key: DataKey, random: Random) -> WrappedKey:
    """AES-256-GCM with a random nonce; both ids are authenticated."""
    nonce = random(NONCE_BYTES)
    return WrappedKey(kek.id, key.id, nonce + AESGCM(kek.key).encrypt(nonce, key.key, _wrap_context(kek.id, key.id)))


def unwrap(kek: KeyEncryptionKey, wrapped: WrappedKey) -> DataKey | None:
    """None where the wrapped key is not what `kek` wrapped."""
    nonce, sealed = wrapped.sealed[:NONCE_BYTES], wrapped.sealed[NONCE_BYTES:]
    if len(nonce) + len(sealed) != NONCE_BYTES + KEY_BYTES + TAG_BYTES:
        return None
    try:
        return DataKey(wrapped.key_id, AESGCM(kek.key).decrypt(nonce, sealed, _wrap_context(kek.id, wrapped.key_id)))
    except InvalidTag:
        return None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """What a node seals and opens with.

    New files are sealed under `active`, wrapped under `kek` and, while a KEK is being exchanged, under `other_keks`.
    Files are opened by the key in their own header, unwrapped with any of the KEKs.
    """

    kek: KeyEncryptionKey
    active: DataKey
    other_keks: tuple[KeyEncryptionKey, ...] = ()

    @classmethod
    def generate(cls, kek: KeyEncryptionKey, random: Random) -> "KeyRing":
        """A ring with a new data key."""
        return cls(kek, new_data_key(random))

    @property
    def keks(self) -> tuple[KeyEncryptionKey, ...]:
        return (self.kek, *self.other_keks)

    def wrapped(self, random: Random) -> tuple[WrappedKey, ...]:
        """The active data key under every KEK of the ring."""
        return tuple(wrap(kek, self.active, random) for kek in self.keks)
