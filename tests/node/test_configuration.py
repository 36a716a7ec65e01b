"""What a configuration file may say, and where it says what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.node.configuration import Address, line_of, load_configuration, parse_address, parse_configuration
from cluster.node.configuration_reference import reference
from cluster.node.errors import ConfigurationError

PATH = Path("node/watchword.toml")
SMALLEST = """name = "node-1"
client_address = "127.0.0.1:7400"
peer_address = "127.0.0.1:7406"
kek = "file:../kek.key"
"""


def test_the_smallest_file_gives_the_defaults_and_absolute_paths() -> None:
    loaded = parse_configuration(SMALLEST, PATH)
    base = Path.cwd() / "node"
    assert loaded.client == Address("127.0.0.1", 7400)
    assert loaded.directory == base / "."
    assert loaded.key_file == base / "node.key"
    assert loaded.kek == f"file:{base / '../kek.key'}"
    assert loaded.log_file is None
    assert loaded.options.raft.heartbeat_ms == 100


@pytest.mark.parametrize(
    ("changed", "line", "words"),
    [
        ('nmae = "x"\n' + SMALLEST, 1, "unknown option nmae; did you mean name?"),
        (SMALLEST + "[raft]\n# a comment\ntick_mss = 3\n", 7, "unknown option raft.tick_mss; did you mean tick_ms?"),
        (SMALLEST + "[raft]\n\ntick_ms = 3\n", 7, "raft.tick_ms: expected `int` >= 5"),
        (SMALLEST + '[raft]\ntick_ms = "15"\n', 6, "raft.tick_ms: expected `int`, got `str`"),
        (SMALLEST + "raft = { tick_ms = 1 }\n", 5, "raft.tick_ms: expected `int` >= 5"),
        (SMALLEST + "[raft]\nelection_timeout_min_ms = 300\n", 6, "expected more than 3 heartbeats, 300"),
        (SMALLEST + "[raft]\nelection_timeout_max_ms = 700\n", 6, "expected more than 750"),
        (SMALLEST + '[log]\nlevel = "loud"\n', 6, "log.level: invalid enum value 'loud'"),
        (SMALLEST + "[nothing]\nx = 1\n", 5, "unknown option nothing"),
        (SMALLEST.replace("7406", "7400"), 3, "an address each"),
        (SMALLEST.replace("127.0.0.1:7406", "7406"), 3, 'peer_address: expected "HOST:PORT"'),
        (SMALLEST.replace("127.0.0.1:7400", "127.0.0.1:74000"), 2, 'client_address: expected "HOST:PORT"'),
        (SMALLEST.replace("file:../", ""), 4, 'kek: expected "file:PATH"'),
        (SMALLEST.replace('"node-1"', '"\U0001f511"'), 1, "name: expected"),
        (SMALLEST.replace('name = "node-1"', ""), 1, "option name is missing; add it"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(changed: str, line: int, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_configuration(changed, PATH)
    assert str(raised.value).startswith(f"{PATH}, line {line}: ")
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_no_toml_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        parse_configuration('name = "node-1"\nkek = \n', PATH)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        load_configuration(tmp_path / "nothing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_configuration(tmp_path / "binary.toml")
    with pytest.raises(ConfigurationError, match="can't be read"):
        load_configuration(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:1", Address("127.0.0.1", 1)),
        ("[::1]:7400", Address("::1", 7400)),
        ("mfa-1.example:65535", Address("mfa-1.example", 65535)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", ":1", "a:0", "a:65536", "::1:7400", "a b:1", "a:1\n", "http://a:1", "a:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


def test_lines_of_nested_keys() -> None:
    text = 'a = 1\n[b]\nc = 2\n[b.d]\n"e" = 3\n'
    assert [line_of(text, key) for key in ("a", "b", "b.c", "b.d.e", "b.d.missing", "zzz")] == [1, 2, 3, 5, 4, 1]


def test_the_manual_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert page.read_text("utf-8") == reference(), "run: python -m tools.generate_configuration_reference"
