"""Which folder of aesedge may import which; each heavy library has one home."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

ROOT = Path(__file__).parent.parent

# The folders of aesedge, from the ground up: each may import only those before it. Files beside them (__init__.py,
# __main__.py) and samples/, which is data, are free.
ORDER = (
    "errors",
    "system",
    "kernels",
    "llm",
    "image",
    "xmp",
    "bundle",
    "cache",
    "vision",
    "config",
    "scheduling",
    "engine",
    "doctor",
    "tuning",
    "bench",
    "eval",
    "library",
    "stars",
    "contact_sheet",
    "serve",
    "kiosk",
    "cli",
)

# Library -> the only files or folders of aesedge that may import it.
HOMES: dict[str, str | tuple[str, ...]] = {
    "onnxruntime": "aesedge/vision/providers.py",
    "llama_cpp": "aesedge/llm/",
    "llguidance": "aesedge/llm/",
    "filelock": "aesedge/cache/",
    "ray": "aesedge/library/fleet.py",
    "matplotlib": "aesedge/bench/plot.py",
    "starlette": ("aesedge/serve/", "aesedge/kiosk/routes.py"),
    "uvicorn": "aesedge/serve/",
    "typer": "aesedge/cli/",
    "rich": "aesedge/cli/",
    "textual_image": "aesedge/cli/",
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


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {path.parent.name for path in (ROOT / "aesedge").glob("*/__init__.py")}
    assert folders - {"samples"} == set(ORDER) - {"errors"}


def test_folders_import_only_those_before_them(runtime_imports: list[Import]) -> None:
    place = {name: i for i, name in enumerate(ORDER)}
    wrong = []
    for found in runtime_imports:
        source, target = part_of_file(found.file), part_of_target(found.target)
        if source in place and target in place and place[target] > place[source]:
            wrong.append(str(found))
    assert not wrong


@pytest.mark.parametrize(("folder", "package"), [("aesedge", "aesedge"), ("export", "aesedge_export")])
def test_no_files_import_each_other_in_a_circle(folder: str, package: str) -> None:
    """Imports for types and imports in functions included."""
    files = {
        path.relative_to(ROOT / folder).with_suffix("").as_posix().removesuffix("/__init__"): path
        for path in (ROOT / folder).rglob("*.py")
    }
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        # A relative import reads as one from the file's own folder.
        inside = path.relative_to(ROOT / folder).as_posix()
        for found in imports_of(path.read_text(encoding="utf-8"), f"{package}/{inside}"):
            parts = found.target.split(".")
            if parts[0] == package:
                longest = ("/".join(parts[1:n]) for n in range(len(parts), 1, -1))
                graph[name].update([target for target in longest if target in files and target != name][:1])
    assert sum(map(len, graph.values())) > len(graph)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(("library", "home"), HOMES.items())
def test_library_is_imported_only_at_home(
    runtime_imports: list[Import], library: str, home: str | tuple[str, ...]
) -> None:
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
