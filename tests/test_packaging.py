"""The wheel holds both packages and the bundle pocket, not pocket's training, and works when it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message

ROOT = Path(__file__).parent.parent
INSTALLED_AS = {"aesedge": "aesedge", "export": "aesedge_export"}
TRAINING = ROOT / "export" / "pocket"
"""Made from a clone alone: users get its result, the bundle."""
POCKET_LIMIT_BYTES = 30_000_000

ignore_caches: Callable[..., set[str]] = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built without a network from a copy of the tree: setuptools leaves files where it builds."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in ("aesedge", "export", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignore_caches)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "dist"), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (tree / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_wheel_is_pure_python(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_wheel_holds_both_folders_and_nothing_else(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in INSTALLED_AS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and not path.is_relative_to(TRAINING)
        and not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(ROOT).parts)
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == expected, "list new packages and data files under [tool.setuptools] in pyproject.toml"


def test_pocket_is_small_enough() -> None:
    pocket = ROOT / "aesedge" / "pocket"
    assert sum(path.stat().st_size for path in pocket.rglob("*") if path.is_file()) <= POCKET_LIMIT_BYTES


def test_wheel_works_when_installed(wheel: Path, tmp_path: Path) -> None:
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(tmp_path)]
    subprocess.run([*install, str(wheel)], check=True)
    script = "import aesedge, aesedge_export; print(aesedge.__file__, aesedge_export.__file__, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert [Path(line).parent for line in done.stdout.split()] == [tmp_path / "aesedge", tmp_path / "aesedge_export"]


def test_environment_knows_export_by_its_installed_name() -> None:
    assert find_spec("aesedge_export") is not None, "install with `make test` or `pip install -e .`"


def test_wheel_declares_command_and_licence(wheel: Path, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
        assert "aesedge = aesedge.__main__:main" in archive.read(entry_points).decode()
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_wheel_offers_the_extras_of_the_contract(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "cpu",
        "cuda",
        "convert",
        "export",
        "photo",
        "plot",
        "eval",
        "serve",
        "show",
        "tables",
        "fleet",
        "dev",
    }


def test_runtime_needs_neither_torch_nor_a_choice_of_onnxruntime(metadata: Message) -> None:
    always = {
        re.split(r"[^\w-]", requirement)[0].lower()
        for requirement in metadata.get_all("Requires-Dist", [])
        if "extra ==" not in requirement
    }
    assert always.isdisjoint({"torch", "transformers", "optimum", "onnx", "onnxruntime", "onnxruntime-gpu"})


def test_version_is_the_packages_version(metadata: Message) -> None:
    import aesedge

    assert metadata["Version"] == aesedge.__version__
