"""What a field may hold, and the one form of a name."""

import unicodedata
from collections.abc import Callable
from functools import partial

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.services import fields, limits
from cluster.services.status import CallError


def refused(check: Callable[[], object]) -> CallError:
    with pytest.raises(CallError) as raised:
        check()
    assert raised.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return raised.value


@pytest.mark.parametrize("value", ["", "a b", "\u00e9", "a\n", "x" * 65, "\x00", "\x7f"])
def test_request_ids_are_short_visible_ascii(value: str) -> None:
    assert "request_id" in str(refused(lambda: fields.request_id(value)))


@pytest.mark.parametrize("value", ["!", "~", "x" * 64, "0190-a:b/c"])
def test_request_ids_that_are_good(value: str) -> None:
    assert fields.request_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "alice\x00",
        "\x1balice",
        "ali\u0085ce",
        "ali\u200bce",
        "\u202ealice",
        "alice\u2028",
        "\ufeffalice",
        "ali\ud800ce",
        "al\nice",
        "",
        "a" * 257,
        "\U0001f600" * 65,
    ],
)
def test_names_that_are_refused(value: str) -> None:
    error = refused(lambda: fields.user_id(value))
    assert "user_id" in str(error)
    assert not value or value not in str(error)


@pytest.mark.parametrize(
    "value",
    ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "o'brien@example.org", "dom\\user", "a b", "李"],
)
def test_names_that_are_good(value: str) -> None:
    assert fields.user_id(value) == value


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("Alice", "alice"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("Jose\u0301", "jos\u00e9"),
        ("JOS\u00c9", "jos\u00e9"),
        ("\u212bngstr\u00f6m", "\u00e5ngstr\u00f6m"),
    ],
)
def test_spellings_of_one_name_are_one_user(typed: str, kept: str) -> None:
    assert fields.user_id(typed) == kept


def test_the_bound_holds_for_what_is_kept() -> None:
    # U+0390 has 2 bytes, and 6 when it is folded and taken apart; composed again it is 2.
    assert fields.user_id("\u0390" * 128) == "\u0390" * 128
    # One ligature of 3 bytes folds to three letters; a dotted capital I of 2 bytes to 3.
    assert fields.user_id("\ufb03" * 85) == "ffi" * 85
    refused(lambda: fields.user_id("\u0130" * 128))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_normalising_twice_is_normalising_once(name: str) -> None:
    once = fields.normalise(name)
    assert fields.normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_canonical_forms_of_a_name_are_one(name: str) -> None:
    assert fields.normalise(unicodedata.normalize("NFD", name)) == fields.normalise(unicodedata.normalize("NFC", name))


@given(st.text(max_size=400))
def test_text_is_accepted_as_it_is_or_refused_without_quoting(value: str) -> None:
    try:
        assert fields.shown_text("application", value, limits.APPLICATION_BYTES_MAX) == value
    except CallError as error:
        assert len(value) < 3 or value not in str(error)  # noqa: PT017 (both ways out are checked)


@pytest.mark.parametrize("value", ["", "1" * 129, "\u00e9" * 65, "1" * 10_000, "\ud800"])
def test_passcodes_that_are_refused(value: str) -> None:
    assert "passcode" in str(refused(lambda: fields.passcode("passcode", value)))


@pytest.mark.parametrize("value", ["123456", "123 456", "hunter2", "\x00", "\U0001f600", "1" * 128])
def test_whatever_can_be_typed_is_left_to_the_state(value: str) -> None:
    assert fields.passcode("passcode", value) == value


def test_numbers_have_bounds() -> None:
    assert fields.within("period", 15, 15, 300) == 15
    assert fields.within("period", 300, 15, 300) == 300
    for value in (14, 301):
        assert "period" in str(refused(partial(fields.within, "period", value, 15, 300)))
