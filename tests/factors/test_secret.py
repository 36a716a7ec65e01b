from urllib.parse import parse_qs, unquote, urlsplit

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factors.otp import Algorithm, Otp, code_at
from factors.secret import (
    SECRET_BYTES_MAX,
    SECRET_BYTES_MIN,
    InvalidSecret,
    hotp_uri,
    parse_base32,
    to_base32,
    totp_uri,
)

SECRET = b"12345678901234567890"
TEXT = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
secrets = st.binary(min_size=SECRET_BYTES_MIN, max_size=SECRET_BYTES_MAX)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.lower(),
        "GEZD GNBV GY3T QOJQ GEZD GNBV GY3T QOJQ",
        f" {TEXT}====\n",
        "gezdgnbv-gy3tqojq-gezdgnbv-gy3tqojq",
    ],
)
def test_padding_case_and_spaces_do_not_matter(text: str) -> None:
    assert parse_base32(text) == SECRET


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "GEZDGNBV",
        TEXT + "1",
        TEXT + "A",
        TEXT[:-1] + "0",
        TEXT[:-1] + "ß",
        "A" * 5000,
        TEXT + "\x00",
        "Ａ" * 32,
        "ı" * 32,
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(InvalidSecret) as caught:
        parse_base32(text)
    assert len(text) < 2 or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_lengths_have_limits() -> None:
    assert len(parse_base32(to_base32(bytes(SECRET_BYTES_MIN)))) == SECRET_BYTES_MIN
    assert len(parse_base32(to_base32(bytes(SECRET_BYTES_MAX)))) == SECRET_BYTES_MAX
    for length in (SECRET_BYTES_MIN - 1, SECRET_BYTES_MAX + 1):
        with pytest.raises(InvalidSecret, match=f"{length} bytes"):
            parse_base32(to_base32(bytes(length)))


@given(secrets)
def test_base32_there_and_back(secret: bytes) -> None:
    assert parse_base32(to_base32(secret)) == secret
    assert "=" not in to_base32(secret)


def test_a_totp_uri() -> None:
    uri = totp_uri(Otp(SECRET, Algorithm.SHA256, 8), period_s=60, account="anna lind@example.org", issuer="Acme & Co")
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc) == ("otpauth", "totp")
    assert unquote(parts.path) == "/Acme & Co:anna lind@example.org"
    assert parse_qs(parts.query) == {
        "secret": [TEXT],
        "issuer": ["Acme & Co"],
        "algorithm": ["SHA256"],
        "digits": ["8"],
        "period": ["60"],
    }


def test_a_hotp_uri_holds_the_next_counter() -> None:
    uri = hotp_uri(Otp(SECRET, Algorithm.SHA1, 6), counter=7, account="anna", issuer="Watchword")
    assert uri.startswith("otpauth://hotp/Watchword:anna?")
    assert parse_qs(urlsplit(uri).query)["counter"] == ["7"]


def test_the_shortest_secret_and_the_longest_period_have_a_uri_too() -> None:
    uri = totp_uri(Otp(bytes(SECRET_BYTES_MIN), Algorithm.SHA1, 6), period_s=300, account="anna", issuer="Watchword")
    assert parse_qs(urlsplit(uri).query)["period"] == ["300"]
    assert hotp_uri(Otp(bytes(SECRET_BYTES_MIN), Algorithm.SHA1, 6), counter=0, account="anna", issuer="Watchword")


@given(
    st.binary(min_size=14, max_size=SECRET_BYTES_MAX),
    st.sampled_from(list(Algorithm)),
    st.sampled_from((6, 8)),
    st.sampled_from((15, 30, 60, 120)),
)
def test_who_scans_the_uri_shows_the_codes_we_expect(
    secret: bytes, algorithm: Algorithm, digits: int, period_s: int
) -> None:
    otp = Otp(secret, algorithm, digits)
    scanned = pyotp.parse_uri(totp_uri(otp, period_s=period_s, account="ännä:1", issuer="Watchword"))
    assert isinstance(scanned, pyotp.TOTP)
    assert scanned.interval == period_s
    assert scanned.generate_otp(1234) == code_at(otp, 1234)
    counted = pyotp.parse_uri(hotp_uri(otp, counter=99, account="anna", issuer="Watchword"))
    assert isinstance(counted, pyotp.HOTP)
    assert counted.at(1) == code_at(otp, 100)
