"""The presets, and the builds that make and CI take from them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import run

ROOT = Path(__file__).parents[2]
BACKENDS = ("cpu", "cuda", "metal")
PRESETS: dict[str, Any] = json.loads((ROOT / "CMakePresets.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("preset", [*BACKENDS, "cpu-asan"])
@pytest.mark.parametrize("kind", ["configure", "build", "test", "workflow"])
def test_each_preset_has_all_four_kinds(preset: str, kind: str) -> None:
    assert preset in {found["name"] for found in PRESETS[f"{kind}Presets"]}


def test_metal_is_for_macos_alone() -> None:
    (metal,) = (found for found in PRESETS["configurePresets"] if found["name"] == "metal")
    assert metal["condition"] == {"type": "equals", "lhs": "${hostSystemName}", "rhs": "Darwin"}


def flag_of(preset: str, variable: str = "CMAKE_ARGS", **environment: str) -> str:
    done = run([sys.executable, ROOT / ".ci" / "preset", preset, variable], env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("preset", "flag", "ort"),
    [("cpu", "-DGGML_NATIVE=on", "cpu"), ("cuda", "-DGGML_CUDA=on", "cuda"), ("metal", "-DGGML_METAL=on", "cpu")],
)
def test_flags_are_read_from_the_presets(preset: str, flag: str, ort: str) -> None:
    assert flag in flag_of(preset).split()
    assert flag_of(preset, "ORT") == ort


def test_cuda_architecture_can_be_chosen() -> None:
    assert flag_of("cuda", CUDA_ARCH="90").endswith("-DCMAKE_CUDA_ARCHITECTURES=90")
    assert flag_of("cuda", CUDA_ARCH="").endswith("-DCMAKE_CUDA_ARCHITECTURES=native")


def test_unknown_preset_is_named() -> None:
    done = run([sys.executable, ROOT / ".ci" / "preset", "vulkan", "CMAKE_ARGS"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "'vulkan'" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_installs_with_the_presets_flags(tmp_path: Path) -> None:
    here = [f"VENV={tmp_path / 'venv'}", f"PYTHON={sys.executable}"]
    shown = run(["make", "-n", "install-cuda", "CUDA_ARCH=90", "CUDACXX=/opt/nvcc", *here], cwd=ROOT)
    assert shown.returncode == 0, shown.stderr
    assert 'CMAKE_ARGS="-DGGML_CUDA=on -DGGML_CUDA_NO_VMM=on -DCMAKE_CUDA_ARCHITECTURES=90"' in shown.stdout
    assert "--force-reinstall" in shown.stdout  # what is installed is of another build
    assert '-e ".[cuda]"' in shown.stdout
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(sys.platform == "darwin" or shutil.which("make") is None, reason="macOS, or no make")
def test_make_install_metal_says_where_metal_is() -> None:
    done = run(["make", "install-metal"], cwd=ROOT)
    assert done.returncode != 0
    assert "macOS" in done.stderr


def test_workflow_uses_official_actions_and_our_own_commands() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert all(action.startswith("actions/") for action in re.findall(r"uses: (\S+)", text))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"run: make ([a-z-]+)", text)) <= targets
    assert {"ubuntu-latest", "macos-latest", "windows-latest"} == set(re.findall(r"runs-on: (\S+)", text))
