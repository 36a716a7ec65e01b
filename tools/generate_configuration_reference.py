"""Write docs/configuration.md from the definitions: `python -m tools.generate_configuration_reference`."""

from __future__ import annotations

from pathlib import Path

from cluster.node.configuration_reference import reference

if __name__ == "__main__":
    page = Path(__file__).parent.parent / "docs" / "configuration.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(reference(), encoding="utf-8")
