"""PINs: which rules they break, and that a hash tells them apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factors.pin import COST, DIGITS_MAX, DIGITS_MIN, Cost, Fault, Rules, fault, has_shape, hash_pin, is_pin

CHEAP = Cost(memory_kib=8, passes=1, lanes=1)
SALT = bytes(16)


@pytest.mark.parametrize(
    ("pin", "expected"),
    [
        ("", Fault.SHAPE),
        ("123", Fault.SHAPE),
        ("1" * 17, Fault.SHAPE),
        ("7" * 10_000_000, Fault.SHAPE),
        ("12a4", Fault.SHAPE),
        ("١٣٥٧", Fault.SHAPE),
        ("１３５７", Fault.SHAPE),
        ("²468", Fault.SHAPE),
        ("    ", Fault.SHAPE),
        ("1113", Fault.REPEATED),
        ("3111", Fault.REPEATED),
        ("1135", None),
        ("1231", Fault.SEQUENTIAL),
        ("9345", Fault.SEQUENTIAL),
        ("9543", Fault.SEQUENTIAL),
        ("1290", None),
        ("8901", None),
        ("2468", None),
        ("1357246813572468", None),
    ],
)
def test_the_first_rule_that_is_broken_is_told(pin: str, expected: Fault | None) -> None:
    assert fault(pin, Rules()) is expected


def test_each_rule_can_be_left_out() -> None:
    assert fault("1112", Rules(no_repeated=False)) is None
    assert fault("1235", Rules(no_sequential=False)) is None
    assert fault("1357", Rules(no_phone=False), ["41135790"]) is None
    assert fault("13579", Rules(length_min=6)) is Fault.TOO_SHORT
    assert fault("135790", Rules(length_min=6)) is None


def test_no_part_of_the_phone_number() -> None:
    assert fault("1357", Rules(), ["0041", "41135790"]) is Fault.PHONE
    assert fault("41135790", Rules(), ["41135790"]) is Fault.PHONE
    assert fault("7531", Rules(), ["41135790"]) is None


@given(st.text(max_size=20))
def test_what_has_the_shape_is_four_to_sixteen_ascii_digits(text: str) -> None:
    assert has_shape(text) == (DIGITS_MIN <= len(text) <= DIGITS_MAX and set(text) <= set("0123456789"))


@given(st.text("0123456789", min_size=4, max_size=16))
def test_a_run_is_found_wherever_it_stands(pin: str) -> None:
    triples = [pin[at : at + 3] for at in range(len(pin) - 2)]
    repeated = any(len(set(triple)) == 1 for triple in triples)
    sequential = any(triple in "0123456789" or triple in "9876543210" for triple in triples)
    assert fault(pin, Rules(no_sequential=False)) == (Fault.REPEATED if repeated else None)
    assert fault(pin, Rules(no_repeated=False)) == (Fault.SEQUENTIAL if sequential else None)


def test_the_cost_is_no_less_than_it_must_be() -> None:
    assert COST.memory_kib >= 19 * 1024
    assert COST.passes >= 2


def test_a_hash_is_that_of_its_pin_its_salt_and_its_cost() -> None:
    kept = hash_pin("2468", SALT, CHEAP)
    assert is_pin("2468", SALT, CHEAP, kept)
    assert not is_pin("2469", SALT, CHEAP, kept)
    assert not is_pin("2468", b"another salt 16 ", CHEAP, kept)
    assert not is_pin("2468", SALT, Cost(16, 1, 1), kept)
    assert len(kept) == 32
