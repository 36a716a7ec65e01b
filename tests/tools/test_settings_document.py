"""docs/settings.md says of every setting what it is at first and what it may be."""

from pathlib import Path

from cluster.state.records import SETTINGS_RANGES, Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def row(name: str) -> tuple[str, str]:
    default, (least, most) = getattr(Settings(), name), SETTINGS_RANGES[name]
    if name == "oath_pin":
        return "off", "off, required"
    if name.startswith("pin_no_"):
        return "on" if default else "off", "on, off"
    return f"{default:,}", f"{least:,} to {most:,}"


def test_the_page_has_every_setting_with_default_and_range() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    found = {
        cells[1].strip("` "): (cells[2].strip(), cells[3].strip()) for cells in (line.split("|") for line in lines)
    }
    assert found == {name: row(name) for name in SETTINGS_RANGES}
