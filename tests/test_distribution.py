"""What is installed: our plain top-level names are ours alone, and the pins are whole and name no place."""

import importlib.metadata
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("cluster", "connectors", "datastore", "factors", "frontends", "tools", "watchword")
PINS = ("requirements.txt", "requirements-dev.txt")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_no_other_distribution_provides_our_names(name: str) -> None:
    providers = set(importlib.metadata.packages_distributions().get(name, []))
    assert providers <= {"watchword-server"}, f"{name} also comes from {providers}: it would shadow ours"


def test_every_package_of_this_checkout_is_in_the_distribution() -> None:
    import tomllib

    configured = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for name in NAMES
        for path in (ROOT / name).rglob("__init__.py")
    }
    assert configured == present


@pytest.mark.parametrize("file", PINS)
def test_pins_name_no_place_to_fetch_from(file: str) -> None:
    text = (ROOT / file).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--\S*index\S*|--find-links|--trusted-host)", text, re.MULTILINE)


@pytest.mark.parametrize("file", PINS)
def test_every_pin_has_a_hash(file: str) -> None:
    text = (ROOT / file).read_text()
    pins = PIN.split(text)[1:]
    assert len(pins) >= 3 * 15
    for name, _version, rest in zip(pins[::3], pins[1::3], pins[2::3], strict=True):
        assert "--hash=sha256:" in rest, f"{name} in {file} has no hash"


def test_development_pins_what_production_pins() -> None:
    production, development = (dict(PIN.findall((ROOT / file).read_text())) for file in PINS)
    assert production.items() <= development.items()
