"""What libraries read from the environment is set before they are loaded, in every entry."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aesedge.system.environment import NO_TELEMETRY

ROOT = Path(__file__).parents[2]


def said(script: str, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    return done.stdout


@pytest.mark.parametrize("value", ["", "0", "false"])
@pytest.mark.parametrize("entry", ["aesedge", "aesedge_export", "aesedge.cli"])
def test_no_telemetry_whatever_stood_there(entry: str, value: str) -> None:
    shown = "import ctypes, os; get = ctypes.CDLL(None).getenv; get.restype = ctypes.c_char_p"
    found = said(f"import {entry}; {shown}; print([get(n.encode()) for n in {[*NO_TELEMETRY]}])",
                 **dict.fromkeys(NO_TELEMETRY, value))  # fmt: skip
    assert found.splitlines()[-1] == str([b"1"] * len(NO_TELEMETRY))


SCRIPTS = sorted((ROOT / "tests" / "measure").glob("*.py"))
assert SCRIPTS
REPORTING = {"onnxruntime", "huggingface_hub", "transformers", "optimum"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_import_aesedge_before_libraries_that_report(script: Path) -> None:
    tree = ast.parse(script.read_text(encoding="utf-8"))
    names = [
        name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    ]
    ours = next((i for i, name in enumerate(names) if name in {"aesedge", "aesedge_export"}), len(names))
    assert not REPORTING & set(names[:ours])


def test_the_script_without_aesedge_sets_it_itself() -> None:
    source = (ROOT / "kernels_bench" / "vision_products.py").read_text(encoding="utf-8")
    assert source.index('os.environ["ORT_DISABLE_TELEMETRY"] = "1"') < source.index("    import onnxruntime")
