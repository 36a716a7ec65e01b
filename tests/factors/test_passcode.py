import pytest
from hypothesis import given
from hypothesis import strategies as st

from factors.passcode import PASSCODE_CHARACTERS_MAX, PasscodeTooLong, is_code, normalise


@pytest.mark.parametrize(
    "typed", ["123456", "123 456", " 123456\n", "123-456", "12 34-56", "123\u00a0456", "123\u2011456", "1 2 3 4 5 6"]
)
def test_spaces_and_hyphens_do_not_matter(typed: str) -> None:
    assert normalise(typed) == "123456"


@pytest.mark.parametrize("typed", ["123.456", "１２３４５６", "12345६", "abc", "123_456", "+123456", "12\x003456"])
def test_everything_else_stays(typed: str) -> None:
    assert normalise(typed) == typed
    assert not is_code(normalise(typed), 6)


def test_a_code_is_exactly_so_many_ascii_digits() -> None:
    assert is_code("012345", 6)
    assert is_code("01234567", 8)
    assert not is_code("012345", 8)
    assert not is_code("", 6)
    assert not is_code("²²²²²²", 6)


def test_what_is_too_long_is_refused_before_anything_is_removed() -> None:
    assert normalise("1" * PASSCODE_CHARACTERS_MAX) == "1" * PASSCODE_CHARACTERS_MAX
    for typed in ("1" * 10_000, " " * (PASSCODE_CHARACTERS_MAX + 1)):
        with pytest.raises(PasscodeTooLong) as caught:
            normalise(typed)
        assert "11" not in str(caught.value)


@given(st.text(max_size=PASSCODE_CHARACTERS_MAX))
def test_normalising_is_done_once(typed: str) -> None:
    assert normalise(normalise(typed)) == normalise(typed)
