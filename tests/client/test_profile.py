"""A profile that cannot be used is refused in one line that says what is wrong with it."""

from pathlib import Path

import pytest

from watchword.errors import ProfileError
from watchword.profile import Profile, checked_endpoint, load_profile

GOOD = """
endpoints = ["127.0.0.1:7400", "[::1]:7401", "node-3.example:7402"]
ca_file = "ca.pem"
certificate_file = "/etc/watchword/client.pem"
key_file = "keys/client.key"
"""


def test_relative_paths_are_relative_to_the_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "client.toml").write_text(GOOD + 'kek_file = "kek"')
    monkeypatch.chdir(tmp_path)
    profile = load_profile(Path("there/client.toml"))
    assert profile == Profile(
        endpoints=("127.0.0.1:7400", "[::1]:7401", "node-3.example:7402"),
        ca_file=tmp_path / "there" / "ca.pem",
        certificate_file=Path("/etc/watchword/client.pem"),
        key_file=tmp_path / "there" / "keys" / "client.key",
        kek_file=tmp_path / "there" / "kek",
    )
    assert profile.at("127.0.0.1:1").endpoints == ("127.0.0.1:1",)


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("", "endpoints"),
        ("endpoints = []", "endpoints"),
        ('endpoints = "127.0.0.1:7400"', "endpoints"),
        (GOOD + 'password = "x"', "'password'"),
        (GOOD.replace("key_file", "keyfile"), "'keyfile'"),
        (GOOD.replace('"ca.pem"', "7"), "'ca_file'"),
        (GOOD.replace('"ca.pem"', '""'), "'ca_file'"),
        (GOOD.replace("ca.pem", "ca\\u0000.pem"), "'ca_file'"),
        (GOOD.replace(":7400", ""), "not an endpoint"),
        (GOOD + "endpoints", "not TOML"),
        (GOOD + "#" * 70_000, "larger"),
    ],
)
def test_a_wrong_profile_is_refused_by_name(tmp_path: Path, contents: str, words: str) -> None:
    path = tmp_path / "client.toml"
    path.write_text(contents)
    with pytest.raises(ProfileError) as raised:
        load_profile(path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("contents", [b"\xff\xfe", b"\0"])
def test_bytes_that_are_no_profile_are_refused(tmp_path: Path, contents: bytes) -> None:
    path = tmp_path / "client.toml"
    path.write_bytes(contents)
    with pytest.raises(ProfileError, match="not TOML"):
        load_profile(path)


def test_a_profile_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"watchword up.*WATCHWORD_PROFILE"):
        load_profile(tmp_path / "client.toml")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path)


@pytest.mark.parametrize(
    "endpoint", ["", "host", "host:", ":1", "host:0", "host:65536", "host:1:2", "::1:1", "ho st:1", "host:x", 7, None]
)
def test_what_is_no_endpoint_is_refused(endpoint: object) -> None:
    with pytest.raises(ProfileError, match="HOST:PORT"):
        checked_endpoint(endpoint)
