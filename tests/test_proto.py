"""The generated code in `watchword/v1` is what `make proto` makes of `proto/` now."""

from pathlib import Path

from tools.generate_proto import PACKAGE, ROOT, generate


def test_generated_code_is_current(tmp_path: Path) -> None:
    fresh = {file: (tmp_path / file).read_text() for file in generate(tmp_path)}
    present = {path.relative_to(ROOT): path.read_text() for path in (ROOT / PACKAGE).glob("*_pb2*")}
    assert present == fresh, "proto/ and watchword/v1 differ: run `make proto`"
