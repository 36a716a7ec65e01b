"""What a terminal shows is whole and harmless."""

import pytest

from tools.output import Output, moment

ADDRESS = "node-1.a-rather-long-name.example:7400"


@pytest.fixture
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("tools.output.is_terminal", lambda: True)


@pytest.mark.usefixtures("_terminal")
def test_a_narrow_terminal_cuts_nothing_off(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("NODE", "ADDRESS"), [("node-1", ADDRESS), ("node-2", ADDRESS)])
    assert capsys.readouterr().out.count(ADDRESS) == 2


@pytest.mark.usefixtures("_terminal")
def test_a_name_cannot_drive_the_terminal_or_the_markup(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("USER",), [("\x1b]0;title\x07[red]alice[/red]\nroot",)])
    shown = capsys.readouterr().out
    assert "\x1b]" not in shown
    assert "\x07" not in shown
    assert "[red]alice[/red] root" in shown


def test_moments_are_for_people() -> None:
    assert moment(0) == ""
    assert moment(1_764_000_000_999) == "2025-11-24 16:00:00Z"
