"""HOTP and TOTP against the RFCs' vectors, and the windows that are searched."""

import hmac
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factors.otp import (
    POSITION_MAX,
    STEP_NONE,
    Algorithm,
    HotpWindow,
    Otp,
    Outcome,
    TotpWindow,
    Verdict,
    code_at,
    codes,
    resynchronise,
    search_hotp,
    search_totp,
    step_at,
)

DIGITS = b"1234567890"
SEEDS = {
    Algorithm.SHA1: DIGITS * 2,
    Algorithm.SHA256: DIGITS * 3 + b"12",
    Algorithm.SHA512: DIGITS * 6 + b"1234",
}
OTP = Otp(SEEDS[Algorithm.SHA1], Algorithm.SHA1, 6)
HOTP_WINDOW = HotpWindow(10, 10)
TOTP_WINDOW = TotpWindow(1, 5)
WRONG = Outcome(Verdict.WRONG, -1)
REPLAYED = Outcome(Verdict.REPLAYED, -1)
TOO_OLD = Outcome(Verdict.TOO_OLD, -1)

algorithms = st.sampled_from(list(Algorithm))
otps = st.builds(Otp, st.binary(min_size=1, max_size=200), algorithms, st.sampled_from((6, 8)))
positions = st.integers(0, 2**63)


def test_rfc_4226_appendix_d() -> None:
    wanted = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]
    assert [code_at(OTP, counter) for counter in range(10)] == wanted


@pytest.mark.parametrize(
    ("seconds", "sha1", "sha256", "sha512"),
    [
        (59, "94287082", "46119246", "90693936"),
        (1111111109, "07081804", "68084774", "25091201"),
        (1111111111, "14050471", "67062674", "99943326"),
        (1234567890, "89005924", "91819424", "93441116"),
        (2000000000, "69279037", "90698825", "38618901"),
        (20000000000, "65353130", "77737706", "47863826"),
    ],
)
def test_rfc_6238_appendix_b(seconds: int, sha1: str, sha256: str, sha512: str) -> None:
    wanted = {Algorithm.SHA1: sha1, Algorithm.SHA256: sha256, Algorithm.SHA512: sha512}
    for algorithm, code in wanted.items():
        assert code_at(Otp(SEEDS[algorithm], algorithm, 8), step_at(seconds * 1000, 30)) == code


@given(otps, positions)
def test_the_hmac_is_that_of_the_standard_library(otp: Otp, position: int) -> None:
    mac = hmac.digest(otp.secret, position.to_bytes(8, "big"), otp.algorithm.name.lower())
    offset = mac[-1] & 15
    value = int.from_bytes(mac[offset : offset + 4], "big") & 0x7FFFFFFF
    assert code_at(otp, position) == str(value % 10**otp.digits).zfill(otp.digits)


def test_a_step_begins_at_its_first_millisecond() -> None:
    assert [step_at(now_ms, 30) for now_ms in (0, 29_999, 30_000, 59_999, 60_000)] == [0, 0, 1, 1, 2]
    assert step_at(119_999, 60) == 1


def test_a_token_is_never_shown_with_its_secret() -> None:
    assert "1234" not in repr(OTP)
    assert "1234" not in str(OTP)


@pytest.mark.parametrize("offset", range(11))
def test_hotp_accepts_up_to_ten_counters_ahead(offset: int) -> None:
    assert search_hotp(OTP, code_at(OTP, 100 + offset), 100, HOTP_WINDOW) == (Verdict.ACCEPTED, 100 + offset)


def test_hotp_accepts_nothing_further_ahead() -> None:
    assert search_hotp(OTP, code_at(OTP, 111), 100, HOTP_WINDOW) == WRONG


@pytest.mark.parametrize("offset", range(1, 11))
def test_hotp_tells_a_passed_code_from_a_wrong_one(offset: int) -> None:
    assert search_hotp(OTP, code_at(OTP, 100 - offset), 100, HOTP_WINDOW) == REPLAYED


def test_hotp_looks_behind_so_far_only() -> None:
    assert search_hotp(OTP, code_at(OTP, 89), 100, HOTP_WINDOW) == WRONG


def test_hotp_at_the_ends_of_its_counter() -> None:
    assert search_hotp(OTP, code_at(OTP, 0), 0, HOTP_WINDOW) == (Verdict.ACCEPTED, 0)
    assert search_hotp(OTP, "000000", 0, HOTP_WINDOW) == WRONG
    last = POSITION_MAX
    assert search_hotp(OTP, code_at(OTP, last), last, HOTP_WINDOW) == (Verdict.ACCEPTED, last)


def test_hotp_does_not_take_the_last_code_again_though_it_recurs_in_the_window() -> None:
    otp, recurring = _with_recurring_code()
    first, second = recurring
    code = code_at(otp, first)
    assert search_hotp(otp, code, first, HotpWindow(second - first, 0)) == (Verdict.ACCEPTED, first)
    assert search_hotp(otp, code, first + 1, HotpWindow(second - first, 0)) == REPLAYED


def _with_recurring_code() -> tuple[Otp, tuple[int, int]]:
    """Two counters with one code; the birthday paradox has some among a few thousand."""
    seen: dict[bytes, int] = {}
    for counter, code in enumerate(codes(OTP, 0, 5000)):
        if code in seen:
            return OTP, (seen[code], counter)
        seen[code] = counter
    raise AssertionError("no code recurs")


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_totp_accepts_one_step_around_the_expected_one(offset: int) -> None:
    assert search_totp(OTP, code_at(OTP, 1000 + offset), 1000, STEP_NONE, TOTP_WINDOW) == (
        Verdict.ACCEPTED,
        1000 + offset,
    )


@pytest.mark.parametrize("offset", [-7, 2, 3])
def test_totp_takes_what_is_far_for_wrong(offset: int) -> None:
    assert search_totp(OTP, code_at(OTP, 1000 + offset), 1000, STEP_NONE, TOTP_WINDOW) == WRONG


@pytest.mark.parametrize("offset", [-6, -2])
def test_totp_tells_what_is_shortly_past(offset: int) -> None:
    assert search_totp(OTP, code_at(OTP, 1000 + offset), 1000, STEP_NONE, TOTP_WINDOW) == TOO_OLD


@pytest.mark.parametrize("last_used", [999, 1000, 1001])
def test_totp_accepts_no_step_up_to_the_last_used(last_used: int) -> None:
    for step in range(999, 1002):
        wanted = REPLAYED if step <= last_used else (Verdict.ACCEPTED, step)
        assert search_totp(OTP, code_at(OTP, step), 1000, last_used, TOTP_WINDOW) == wanted


def test_totp_tells_a_replay_from_a_code_that_is_too_old() -> None:
    assert search_totp(OTP, code_at(OTP, 995), 1000, 995, TOTP_WINDOW) == REPLAYED
    assert search_totp(OTP, code_at(OTP, 996), 1000, 995, TOTP_WINDOW) == TOO_OLD
    assert search_totp(OTP, code_at(OTP, 500), 1000, 500, TOTP_WINDOW) == REPLAYED


def test_totp_at_the_beginning_of_time() -> None:
    assert search_totp(OTP, code_at(OTP, 0), 0, STEP_NONE, TOTP_WINDOW) == (Verdict.ACCEPTED, 0)
    assert search_totp(OTP, "000000", 0, STEP_NONE, TOTP_WINDOW) == WRONG


@pytest.mark.parametrize("code", ["", "75522", "7552240", "755224\x00", "٧٥٥٢٢٤", "\ud800", "a" * 128, "+55224"])
def test_what_is_no_code_is_wrong(code: str) -> None:
    assert search_hotp(OTP, code, 0, HOTP_WINDOW) == WRONG
    assert search_totp(OTP, code, 1000, STEP_NONE, TOTP_WINDOW) == WRONG
    assert resynchronise(OTP, (code, code), 0, 20) is None


@given(otps, positions, st.integers(0, 20), st.integers(0, 20), st.integers(-30, 30))
def test_what_hotp_accepts_is_in_the_window_and_has_that_code(
    otp: Otp, counter: int, ahead: int, behind: int, offset: int
) -> None:
    code = code_at(otp, max(0, counter + offset))
    outcome = search_hotp(otp, code, counter, HotpWindow(ahead, behind))
    if outcome.verdict is Verdict.ACCEPTED:
        assert counter <= outcome.position <= counter + ahead
        assert code_at(otp, outcome.position) == code
    else:
        assert not 0 <= offset <= ahead or outcome == REPLAYED


@given(otps, st.integers(100, 2**50), st.integers(0, 5), st.integers(-12, 12), st.integers(-12, 12))
def test_what_totp_accepts_is_after_the_last_used(
    otp: Otp, expected: int, around: int, last_offset: int, offset: int
) -> None:
    last_used = expected + last_offset
    code = code_at(otp, expected + offset)
    outcome = search_totp(otp, code, expected, last_used, TotpWindow(around, 5))
    if outcome.verdict is Verdict.ACCEPTED:
        assert expected - around <= outcome.position <= expected + around
        assert outcome.position > last_used
        assert code_at(otp, outcome.position) == code
    if offset == last_offset:
        assert outcome == REPLAYED


@pytest.mark.parametrize("offset", [0, 1, 500, 999])
def test_resynchronisation_finds_two_consecutive_codes(offset: int) -> None:
    pair = code_at(OTP, 50 + offset), code_at(OTP, 51 + offset)
    assert resynchronise(OTP, pair, 50, 1000) == 50 + offset


def test_resynchronisation_takes_nothing_else() -> None:
    assert resynchronise(OTP, (code_at(OTP, 1050), code_at(OTP, 1051)), 50, 1000) is None
    assert resynchronise(OTP, (code_at(OTP, 49), code_at(OTP, 50)), 50, 1000) is None
    assert resynchronise(OTP, (code_at(OTP, 60), code_at(OTP, 62)), 50, 1000) is None
    assert resynchronise(OTP, (code_at(OTP, 61), code_at(OTP, 60)), 50, 1000) is None


def test_resynchronisation_keeps_to_the_counters_there_are() -> None:
    assert resynchronise(OTP, ("0", "0"), -10, 5) is None
    assert resynchronise(OTP, (code_at(OTP, 0), code_at(OTP, 1)), -10, 20) == 0
    assert resynchronise(OTP, ("0", "0"), POSITION_MAX, 1000) is None


def test_a_window_compares_every_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a match nor its place changes what is computed and compared."""
    compared: list[bytes] = []

    def counting(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return hmac.compare_digest(left, right)

    monkeypatch.setattr("factors.otp.compare_digest", counting)
    amounts = []
    for counter in range(100, 111):
        compared.clear()
        assert search_hotp(OTP, code_at(OTP, counter), 100, HOTP_WINDOW).verdict is Verdict.ACCEPTED
        amounts.append(len(compared))
    assert set(amounts) == {12}


def test_codes_are_those_of_single_positions() -> None:
    many = codes(OTP, 7, 30)
    assert [code.decode() for code in many] == [code_at(OTP, position) for position in range(7, 37)]
    assert all(left != right for left, right in pairwise(many))
