"""A joining token comes back as it was made, and nothing else is taken for one."""

import base64
import json
import zlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchword.errors import InvalidArgument, ProfileError
from watchword.join_token import PREFIX, TOKEN_CHARACTERS_MAX, JoinToken, decode, encode

TOKEN = JoinToken(
    "c0" * 16, ("192.0.2.1:7400", "[2001:db8::1]:7400"), b"ca", b"certificate", b"key", b"secret", "0" * 16, 1_000
)


def packed(document: object) -> str:
    data = zlib.compress(json.dumps(document).encode())
    return PREFIX + base64.urlsafe_b64encode(sha256(data).digest()[:4] + data).decode().rstrip("=")


def fields(**changed: object) -> dict[str, object]:
    return {
        "cluster": "c0",
        "endpoints": ["a:1"],
        "ca": "",
        "certificate": "",
        "key": "",
        "secret": "00",
        "kek": "",
        "expires": 1,
        **changed,
    }


def test_it_comes_back_as_it_was_made() -> None:
    text = encode(TOKEN)
    assert text.startswith("wwjoin1-")
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    assert decode(text) == TOKEN
    assert decode(f" {text[:40]}\n{text[40:]}\n") == TOKEN, "a terminal may have broken the line"
    assert "key" not in repr(TOKEN).replace("kek", "")
    assert b"secret" not in repr(TOKEN).encode()


@given(st.integers(0, len(encode(TOKEN)) - 1), st.characters(codec="ascii"))
def test_a_character_that_changed_is_noticed(place: int, other: str) -> None:
    text = encode(TOKEN)
    changed = text[:place] + other + text[place + 1 :]
    if "".join(changed.split()) == text or other == text[place]:
        return
    with pytest.raises(InvalidArgument) as refused:
        decode(changed)
    assert changed not in str(refused.value)


@given(st.integers(0, len(encode(TOKEN)) - 1))
def test_one_that_was_cut_is_noticed(length: int) -> None:
    with pytest.raises(InvalidArgument):
        decode(encode(TOKEN)[:length])


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        "text",
        fields(endpoints=[]),
        fields(endpoints=["a:1"] * 65),
        fields(endpoints="a:1"),
        fields(secret="zz"),
        fields(secret=5),
        fields(expires="soon"),
        fields(key=None),
    ],
)
def test_what_is_whole_and_no_token_is_refused(document: object) -> None:
    with pytest.raises(InvalidArgument):
        decode(packed(document))


@pytest.mark.parametrize("endpoint", [1, None, "nowhere", "a:0", "a:99999", "a b:1"])
def test_endpoints_are_looked_at(endpoint: object) -> None:
    with pytest.raises(ProfileError):
        decode(packed(fields(endpoints=[endpoint])))


def test_one_that_is_too_long_or_unfolds_into_much_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        decode(PREFIX + "A" * TOKEN_CHARACTERS_MAX)
    with pytest.raises(InvalidArgument):
        decode(packed(fields(ca="A" * 1_000_000)))


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_prefix_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        decode(PREFIX + base64.urlsafe_b64encode(data).decode())
    with pytest.raises(InvalidArgument):
        decode(PREFIX + base64.urlsafe_b64encode(sha256(data).digest()[:4] + data).decode())
