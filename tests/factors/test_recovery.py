"""Recovery codes and bypasses: drawn without bias, told from codes of tokens, and known however they are typed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from factors.passcode import LETTERED, normalise, splits
from factors.recovery import ALPHABET, CHARACTERS, RECOVERY_CODES, canonical, draw, fingerprint, has_letter

codes = st.binary(min_size=1, max_size=32).map(lambda seed: draw(seed, 1)[0])


@given(st.binary(max_size=64))
def test_what_is_drawn_are_ten_different_codes_with_a_letter_each(seed: bytes) -> None:
    drawn = draw(seed, RECOVERY_CODES)
    assert drawn == draw(seed, RECOVERY_CODES)
    assert len(set(drawn)) == RECOVERY_CODES
    for code in drawn:
        assert len(code) == CHARACTERS
        assert set(code) <= set(ALPHABET)
        assert has_letter(code)
        assert canonical(code) == code


def test_every_character_is_as_likely_as_the_next() -> None:
    number = 2_000
    seen = Counter("".join(draw(place.to_bytes(4, "big"), 1)[0] for place in range(number)))
    expected = number * CHARACTERS / len(ALPHABET)
    assert set(seen) == set(ALPHABET)
    # Six standard deviations: these seeds are the same in each run.
    assert all(abs(count - expected) < 6 * expected**0.5 for count in seen.values())


@given(codes, st.data())
def test_a_code_is_known_however_it_is_typed(code: str, data: st.DataObject) -> None:
    lookalikes = {"0": "0oO", "1": "1iIlL"}
    typed = "".join(data.draw(st.sampled_from(lookalikes.get(each, each + each.lower()))) for each in code)
    spaced = "-".join((typed[:4], typed[4:]))
    assert canonical(normalise(spaced)) == code


def test_no_letter_stands_for_another() -> None:
    assert not set("ILOU") & set(ALPHABET)
    assert [canonical(each) for each in "uU"] == ["u", "U"]
    assert canonical("ıſß") == "ıſß"


@given(st.text("0123456789", min_size=4, max_size=16), codes)
def test_pin_and_lettered_code_are_read_in_one_way(pin: str, code: str) -> None:
    (only,) = splits(pin + code, {6, 8})
    assert only == (pin, code, LETTERED)


@given(st.text("0123456789", max_size=24), st.sets(st.sampled_from([6, 8]), min_size=1))
def test_digits_are_read_in_each_way_that_the_tokens_have(typed: str, lengths: set[int]) -> None:
    found = splits(typed, lengths)
    assert [split.length for split in found] == sorted(lengths)
    assert all(split.pin + split.code == typed and len(split.code) <= split.length for split in found)


@given(st.text(max_size=40))
def test_there_are_never_more_than_two_ways(typed: str) -> None:
    found = splits(typed, {6, 8})
    assert 1 <= len(found) <= 2
    assert typed not in "".join(map(repr, found)) or len(typed) < 3


def test_a_fingerprint_depends_on_the_salt() -> None:
    assert fingerprint("ABCD2345", bytes(16)) == fingerprint("ABCD2345", bytes(16))
    assert fingerprint("ABCD2345", bytes(16)) != fingerprint("ABCD2345", b"\1" * 16)
    assert fingerprint("ABCD2345", bytes(16)) != fingerprint("ABCD2346", bytes(16))
