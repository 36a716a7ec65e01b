"""Generates `watchword/v1/*_pb2*.py` and their type stubs from `proto/`.  Run as `make proto`."""

import importlib.resources
import shutil
import sys
import tempfile
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("watchword/v1")


class GenerationError(Exception):
    """protoc refused the proto files; its own message stands on standard error."""


def generate(output: Path) -> list[Path]:
    """Write the generated files below `output`, which must exist; their paths, relative to it and sorted."""
    sources = sorted((ROOT / "proto" / PACKAGE).glob("*.proto"))
    # The plugins of mypy-protobuf stand beside the interpreter, which need not be on PATH.
    scripts = Path(sys.executable).parent
    arguments = [
        "protoc",
        f"--proto_path={ROOT / 'proto'}",
        f"--proto_path={importlib.resources.files('grpc_tools') / '_proto'}",
        # google/rpc/*.proto, of googleapis-common-protos.
        f"--proto_path={Path(status_pb2.__file__).parents[2]}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--python_out={output}",
        f"--mypy_out=quiet:{output}",
        f"--grpc_python_out={output}",
        f"--mypy_grpc_out=quiet:{output}",
        *(str(source) for source in sources),
    ]
    if protoc.main(arguments) != 0:
        raise GenerationError("protoc failed: correct the file and line that it names above")
    return sorted(path.relative_to(output) for path in output.rglob("*") if path.is_file())


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        files = generate(Path(directory))
        for stale in (ROOT / PACKAGE).glob("*_pb2*"):
            stale.unlink()
        for file in files:
            shutil.copyfile(Path(directory) / file, ROOT / file)
            print(file)


if __name__ == "__main__":
    main()
