"""Keys: where the key-encryption key comes from, and how it wraps data keys."""

import os
from pathlib import Path

import pytest

from datastore.errors import DatastoreError, InsecurePermissions, NotFound, UnusableKey
from datastore.files import RealFiles
from datastore.keys import (
    KeyEncryptionKey,
    KeyRing,
    key_text,
    load_kek,
    load_kek_file,
    new_data_key,
    new_kek,
    parse_kek,
    passphrase_text,
    write_kek_file,
)
from datastore.wrapping import unwrap, wrap
from tests.datastore.sample import Random

CHEAP = {"memory_kib": 8 * 1024, "passes": 1, "lanes": 1}


async def test_wrapping(randbytes: Random) -> None:
    kek, key = new_kek(randbytes), new_data_key(randbytes)
    wrapped = wrap(kek, key, randbytes)
    assert (wrapped.kek_id, wrapped.key_id, len(wrapped.sealed)) == (kek.id, key.id, 60)
    assert unwrap(kek, wrapped) == key
    assert unwrap(new_kek(randbytes), wrapped) is None
    for changed in (
        type(wrapped)(wrapped.kek_id, "00" * 8, wrapped.sealed),
        type(wrapped)(wrapped.kek_id, wrapped.key_id, wrapped.sealed[:-1]),
        type(wrapped)(wrapped.kek_id, wrapped.key_id, b"\0" + wrapped.sealed[1:]),
        type(wrapped)(wrapped.kek_id, wrapped.key_id, b""),
    ):
        assert unwrap(kek, changed) is None


async def test_secrets_are_not_shown(randbytes: Random) -> None:
    ring = KeyRing.generate(new_kek(randbytes), randbytes)
    shown = f"{ring!r} {ring.kek!s} {ring.active}"
    for secret in (ring.kek.key, ring.active.key):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    assert ring.kek.id in shown


async def test_a_key_file(tmp_path: Path, randbytes: Random) -> None:
    path = str(tmp_path / "kek")
    kek = new_kek(randbytes)
    write_kek_file(RealFiles(), path, key_text(kek))
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert load_kek_file(RealFiles(), path) == kek
    assert load_kek(f"file:{path}") == kek
    os.chmod(path, 0o640)
    with pytest.raises(InsecurePermissions, match=f"chmod 0600 {path}"):
        load_kek(f"file:{path}")
    with pytest.raises(NotFound):
        load_kek(f"file:{path}x")


async def test_environment_and_credential(tmp_path: Path, randbytes: Random) -> None:
    kek = new_kek(randbytes)
    one_line = " ".join(line for line in key_text(kek).splitlines() if not line.startswith("#"))
    assert load_kek("environment:KEK", environment={"KEK": one_line}) == kek
    (tmp_path / "watchword.kek").write_text(key_text(kek))
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load_kek("credential:watchword.kek", environment=credentials) == kek
    with pytest.raises(UnusableKey, match="not set"):
        load_kek("environment:KEK", environment={})
    with pytest.raises(UnusableKey, match="LoadCredential="):
        load_kek("credential:watchword.kek", environment={})
    with pytest.raises(NotFound, match="LoadCredential=other:FILE"):
        load_kek("credential:other", environment=credentials)
    with pytest.raises(NotFound):
        load_kek("credential:../../etc/passwd", environment=credentials)


@pytest.mark.parametrize("spec", ["", "file", "file:", "environment:", "credential:", "/etc/kek", "vault:x"])
async def test_what_a_key_may_come_from_is_said(spec: str) -> None:
    with pytest.raises(UnusableKey, match="write file:PATH, environment:NAME or credential:NAME"):
        load_kek(spec, environment={})


async def test_a_passphrase(tmp_path: Path, randbytes: Random) -> None:
    text, kek = passphrase_text("correct horse ä", randbytes, **CHEAP)
    assert kek.key.hex() not in text
    path = str(tmp_path / "kek")
    write_kek_file(RealFiles(), path, text)
    assert load_kek(f"file:{path}", passphrase=lambda: "correct horse ä") == kek
    assert load_kek(f"file:{path}", environment={"WATCHWORD_PASSPHRASE": "correct horse ä"}) == kek
    (tmp_path / "watchword.passphrase").write_text("correct horse ä\n")
    assert load_kek(f"file:{path}", environment={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == kek
    with pytest.raises(UnusableKey, match="the passphrase is wrong"):
        load_kek(f"file:{path}", passphrase=lambda: "correct horse a")
    with pytest.raises(UnusableKey, match="set WATCHWORD_PASSPHRASE"):
        load_kek(f"file:{path}", environment={})
    with pytest.raises(UnusableKey, match="needs a passphrase"):
        load_kek_file(RealFiles(), path)
    assert passphrase_text("correct horse ä", randbytes, **CHEAP)[1] != kek, "the salt is random"


async def test_every_flipped_byte_of_a_key_text_is_noticed(randbytes: Random) -> None:
    kek = new_kek(randbytes)
    text = key_text(kek).partition("\n")[2].encode()
    for offset in range(len(text)):
        flipped = text[:offset] + bytes([text[offset] ^ 1]) + text[offset + 1 :]
        if flipped.split() == text.split():
            continue
        with pytest.raises(UnusableKey) as caught:
            parse_kek("kek", flipped)
        assert kek.key.hex()[:8] not in str(caught.value), f"byte {offset}"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"watchword-kek",
        b"watchword-kek 1 id 00",
        b"watchword-kek 2 id 00 key 00",
        b"watchword-kek 1 id 0011223344556677 key zz",
        b"watchword-kek 1 id 0011223344556677 key 0011",
        b"watchword-kek 1 id 0011223344556677 argon2id 00 8192 1 1",
        b"watchword-kek 1 id 0011223344556677 argon2id 00112233445566778899aabbccddeeff 99999999999 1 1",
        b"watchword-kek 1 id 0011223344556677 argon2id 00112233445566778899aabbccddeeff 8192 0 1",
        b"watchword-kek 1 id 0011223344556677 argon2id 00112233445566778899aabbccddeeff 8192 1 x",
        b"-----BEGIN PRIVATE KEY-----",
        b"watchword-kek 1 id 0011223344556677 key " + b"0" * 20_000,
    ],
)
async def test_other_texts_are_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(DatastoreError) as caught:
        parse_kek("kek", text, lambda: "passphrase")
    assert isinstance(caught.value, UnusableKey)
    assert "\n" not in str(caught.value)


async def test_the_id_is_the_keys_own() -> None:
    one, same, other = (KeyEncryptionKey.of(bytes([n]) * 32) for n in (1, 1, 2))
    assert one.id == same.id != other.id
    assert len(one.id) == 16
