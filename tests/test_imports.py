"""Who may import whom: cli -> engine -> vision | llm -> everything else -> errors; each heavy library has one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# The parts of aesedge that do not stand on floor 1, "everything else". A part imports only parts of lower floors, and
# its neighbours where they are one thing in several files: floor 1, and the engine on floor 3.
ENGINE = (
    "answering",
    "bench",
    "conversation",
    "critique_report",
    "doctor",
    "engine",
    "eye",
    "first_load_process",
    "kept_kv",
    "likelihood",
    "memory",
    "options",
    "photo",
    "plan",
    "planning",
    "profile",
    "raw_timing",
    "reply",
    "residents",
    "scheduler",
    "scoring",
    "tuning",
    "work",
)
FLOORS = {
    "errors": 0,
    **dict.fromkeys(("vision", "llm"), 2),
    **dict.fromkeys(ENGINE, 3),
    "cli": 4,
    **dict.fromkeys(("__init__", "__main__"), 5),
}
FLOORS_OF_NEIGHBOURS = {1, 3}

# Library -> the only file or folder of aesedge that may import it.
HOMES = {
    "onnxruntime": "aesedge/vision.py",
    "llama_cpp": "aesedge/llm/",
    "llguidance": "aesedge/llm/",
    "filelock": "aesedge/cache/",
    "matplotlib": "aesedge/plot.py",
    "typer": "aesedge/cli/",
    "rich": "aesedge/cli/",
    "aesedge_export": "aesedge/cli/",
    **dict.fromkeys(("export", "torch", "transformers", "optimum", "onnx", "gguf", "sentencepiece"), "nowhere"),
}


When = Literal["load", "call", "types"]


class Import(NamedTuple):
    file: str
    """Path from the repository's root, with slashes."""
    line: int
    target: str
    """Dotted name; for `from a import b` it is `a.b`, whether b is a module or not."""
    when: When
    """At load, in a call of a function, or for types alone (under `if TYPE_CHECKING`)."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def targets(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        stem = ".".join(filter(None, [*base, node.module]))
        return [f"{stem}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {"importlib.import_module", "import_module"}:
        name = node.args[0]
        return [name.value] if isinstance(name, ast.Constant) and isinstance(name.value, str) else []
    return []


def imports_of(source: str, file: str) -> list[Import]:
    package = file.split("/")[:-1]
    found = []

    def walk(node: ast.AST, when: When) -> None:
        found.extend(Import(file, node.lineno, target, when) for target in targets(node, package))
        for field, value in ast.iter_fields(node):
            inner = when
            if field == "body" and is_type_checking(node):
                inner = "types"
            elif field == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = "call"
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    walk(child, inner)

    walk(ast.parse(source), "load")
    return found


def imports_under(folder: str) -> list[Import]:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"no Python file under {folder}"
    return [
        found
        for path in files
        for found in imports_of(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]


def part_of_file(file: str) -> str:
    """`aesedge/llm/model.py` -> llm, `aesedge/image.py` -> image."""
    return file.split("/")[1].removesuffix(".py")


def part_of_target(target: str) -> str | None:
    """`aesedge.llm.model.Model` -> llm; None for another package and for a bare name such as `aesedge.__version__`."""
    names = target.split(".")
    if names[0] != "aesedge" or len(names) == 1:
        return None
    exists = (ROOT / "aesedge" / names[1]).is_dir() or (ROOT / "aesedge" / f"{names[1]}.py").is_file()
    return names[1] if exists else None


@pytest.fixture(scope="module")
def runtime_imports() -> list[Import]:
    return imports_under("aesedge")


def test_parts_import_only_lower_floors(runtime_imports: list[Import]) -> None:
    wrong = []
    for found in runtime_imports:
        source, target = part_of_file(found.file), part_of_target(found.target)
        if target is None or target == source:
            continue
        source_floor, target_floor = FLOORS.get(source, 1), FLOORS.get(target, 1)
        neighbours = source_floor == target_floor and source_floor in FLOORS_OF_NEIGHBOURS
        if target_floor >= source_floor and not neighbours:
            wrong.append(str(found))
    assert not wrong


def test_parts_import_each_other_in_no_circle(runtime_imports: list[Import]) -> None:
    graph: dict[str, set[str]] = {}
    for found in runtime_imports:
        source, target = part_of_file(found.file), part_of_target(found.target)
        if target is not None and target != source and found.when != "types":
            graph.setdefault(source, set()).add(target)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_cache_knows_keys_and_arrays_alone(runtime_imports: list[Import]) -> None:
    known = {part_of_target(found.target) for found in runtime_imports if part_of_file(found.file) == "cache"}
    assert known <= {None, "cache", "errors", "hashes", "manifest", "sizes", "system"}


@pytest.mark.parametrize(("library", "home"), HOMES.items())
def test_library_is_imported_only_at_home(runtime_imports: list[Import], library: str, home: str) -> None:
    strangers = [
        str(found)
        for found in runtime_imports
        if found.target.split(".")[0] == library and not found.file.startswith(home)
    ]
    assert not strangers


def test_export_is_loaded_lazily(runtime_imports: list[Import]) -> None:
    assert not [
        str(found) for found in runtime_imports if found.target.startswith("aesedge_export") and found.when == "load"
    ]


@pytest.mark.parametrize("library", ["llama_cpp", "onnxruntime"])
def test_export_touches_each_runtime_in_one_module_at_most(library: str) -> None:
    users = {found.file for found in imports_under("export") if found.target.split(".")[0] == library}
    assert len(users) <= 1, users


def loaded_after(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after the statement."""
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_aesedge_loads_nothing_heavy() -> None:
    heavy = {
        "llama_cpp",
        "onnxruntime",
        "matplotlib",
        "numpy",
        "PIL",
        "typer",
        "rich",
        "torch",
        "transformers",
        "aesedge_export",
    }
    assert not heavy & loaded_after("import aesedge")


def test_importing_the_command_loads_no_model_runtime() -> None:
    assert not {"llama_cpp", "onnxruntime", "matplotlib", "torch", "transformers", "aesedge_export"} & loaded_after(
        "import aesedge.cli"
    )


def test_reader_of_imports_sees_every_form() -> None:
    source = (
        "import a.b\nfrom . import c\nfrom ..d import e\nif TYPE_CHECKING:\n    import f\nelse:\n    import g\n"
        "def h():\n    import i\n    importlib.import_module('j')\n"
    )
    found = {target: when for _, _, target, when in imports_of(source, "aesedge/llm/model.py")}
    assert found == {
        "a.b": "load",
        "aesedge.llm.c": "load",
        "aesedge.d.e": "load",
        "f": "types",
        "g": "load",
        "i": "call",
        "j": "call",
    }
