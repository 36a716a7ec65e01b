"""The style that a machine can hold, held: see CONTRIBUTING.md."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("factors", "datastore", "cluster", "watchword", "connectors", "frontends", "tools")
LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Path -> why it may be longer.
LONG_FILES: dict[str, str] = {
    "LICENSE": "the licence's text",
    "requirements.txt": "pins with their hashes",
    "requirements-dev.txt": "pins with their hashes",
}
# "path:function" -> why it may be longer.
LONG_FUNCTIONS: dict[str, str] = {
    "cluster/raft/engine.py:__init__": "takes what the engine uses and wires its parts, one line each",
}

TEXT = {".py", ".pyi", ".md", ".toml", ".proto", ".sh", ".txt", ".ini", ".cfg", ".yml", ".yaml", ""}
LEFT_OUT = {".git", ".venv", ".watchword", ".hypothesis", "__pycache__", "build", "dist", "results"}

# Spelled in parts, so that this file holds to its own rules.
BANNED = {
    "work that was left out": re.compile(r"\bTO" + r"DO\b|\bFIX" + r"ME\b|\bXX" + r"X\b"),
    "a path of one machine": re.compile(r"(?<![\w.}-])/(?:work|farm|home/\w+|root)/|/tmp" + r"/[a-z0-9_.]"),
    "a package registry's host": re.compile("py" + r"pi\.org|python" + r"hosted|/simp" + r"le/|index" + "-url"),
}
UNSAFE = re.compile(r"\bpick" + r"le\.(?:loads?|Unpickler)\b|\bmarshal\.loads?\b|\byaml\.load\b")
BROAD = {"Exception", "BaseException"}
NOQA = re.compile(r"#\s*noqa:\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*")


@cache
def files() -> tuple[Path, ...]:
    """The project's own text files, relative to its root."""

    def walk(directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if path.name in LEFT_OUT or path.name.endswith((".egg-info", "_cache")) or path.is_symlink():
                continue
            if path.is_dir():
                yield from walk(path)
            elif path.suffix in TEXT and not is_generated(path):
                yield path.relative_to(ROOT)

    return tuple(walk(ROOT))


def is_generated(path: Path) -> bool:
    return path.parent.name == "v1" and "_pb2" in path.name


def sources(*directories: str) -> list[Path]:
    return [path for path in files() if path.suffix == ".py" and (not directories or path.parts[0] in directories)]


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def findings(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def test_there_is_something_to_hold() -> None:
    assert {"README.md", "Makefile", "watchword/client.py", "tests/test_tidy.py"} <= {str(path) for path in files()}


def test_no_file_outgrows_a_sitting() -> None:
    long = {str(path): len(text(path).splitlines()) for path in files() if path.suffix not in {".md"}}
    assert {path: lines for path, lines in long.items() if lines > LINES_MAX and path not in LONG_FILES} == {}


def test_no_function_outgrows_a_screen() -> None:
    long = {}
    for path in sources(*ROOMS):
        for node in ast.walk(ast.parse(text(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{path}:{node.name}"] = lines
    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}


@pytest.mark.parametrize("what", BANNED)
def test_nothing_names(what: str) -> None:
    assert findings(BANNED[what], list(files())) == []


def test_nothing_unpickles() -> None:
    assert findings(UNSAFE, sources()) == []


def is_broad(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or (isinstance(kind, ast.Name) and kind.id in BROAD) for kind in kinds)


def has_reason(line: str) -> bool:
    """Whether a line has a comment in words, beside what it says to the linter."""
    return re.search(r"#.*[a-z]{3,}", NOQA.sub("#", line)) is not None


@pytest.mark.parametrize(
    ("line", "expected"),
    [("except Exception:", False), ("except Exception:  # noqa: BLE001", False), ("# a caller's bug ends here", True)],
)
def test_a_reason_is_more_than_a_word_to_the_linter(line: str, expected: bool) -> None:
    assert has_reason(line) is expected


def test_broad_excepts_say_why() -> None:
    """`except Exception` hides what nobody thought of: it raises again, or says in its first lines why it is right."""
    broad = []
    for path in sources(*ROOMS, "bench"):
        lines = text(path).splitlines()
        for node in ast.walk(ast.parse(text(path))):
            if not isinstance(node, ast.ExceptHandler) or not is_broad(node):
                continue
            raises_again = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            if not raises_again and not any(map(has_reason, lines[node.lineno - 1 : node.lineno + 1])):
                broad.append(f"{path}:{node.lineno}")
    assert broad == []


def test_only_tools_print() -> None:
    prints = [
        f"{path}:{node.lineno}"
        for path in sources(*(room for room in ROOMS if room != "tools"))
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert prints == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path) for path in sources(*ROOMS) if text(path).strip() and ast.get_docstring(ast.parse(text(path))) is None
    ]
    assert silent == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [str(path) for path in sources() if path.stem in vague] == []


def test_generated_code_is_left_alone() -> None:
    heads = [path.read_text(encoding="utf-8")[:400] for path in (ROOT / "watchword" / "v1").glob("*_pb2*.py")]
    assert len(heads) >= 6
    assert all("protocol buffer compiler" in head or "generated" in head.lower() for head in heads)


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{path}: {target}"
        for path in files()
        if path.suffix == ".md"
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text(path))
        if "://" not in target and not (ROOT / path.parent / target).exists()
    ]
    assert broken == []
