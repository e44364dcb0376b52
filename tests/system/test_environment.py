"""What libraries read from the environment is set before they are loaded, in every entry; the user's choice wins."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from aesedge.system.environment import NO_TELEMETRY, OPENMP_WAITING

ROOT = Path(__file__).parents[2]
LOAD = "from aesedge.llm import binding; binding.load()"
SHOW = "from aesedge.system.environment import openmp_waiting; print('card:', openmp_waiting())"
OURS = f"GOMP_SPINCOUNT = '{OPENMP_WAITING['GOMP_SPINCOUNT']}'"
THEIRS = "GOMP_SPINCOUNT = '300000'"
VARIABLES = {*NO_TELEMETRY, *OPENMP_WAITING, "OMP_WAIT_POLICY", "KMP_BLOCKTIME"}
needs_gnu = pytest.mark.skipif(sys.platform != "linux", reason="GNU's OpenMP is what llama.cpp is built with on Linux")


def said(script: str, **environment: str) -> str:
    """Return what a fresh interpreter prints, with the settings of each OpenMP runtime that it loads."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        cwd=ROOT,
        env={**kept, "OMP_DISPLAY_ENV": "verbose", **environment},
    )
    return done.stdout


@needs_gnu
@pytest.mark.parametrize(
    "before", ["import aesedge", "import numpy, aesedge", "import aesedge_export", "import aesedge.cli, numpy"]
)
def test_llama_cpp_reads_our_setting(before: str) -> None:
    found = said(f"{before}; {LOAD}; {SHOW}")
    assert OURS in found
    assert "card: GOMP_SPINCOUNT=1000" in found


@needs_gnu
@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("GOMP_SPINCOUNT", "77", "GOMP_SPINCOUNT = '77'"),
        ("OMP_WAIT_POLICY", "passive", "GOMP_SPINCOUNT = '0'"),
        ("OMP_WAIT_POLICY", "active", "GOMP_SPINCOUNT = '30000000000'"),
        ("KMP_BLOCKTIME", "0", THEIRS),
    ],
)
def test_the_users_own_setting_wins(variable: str, value: str, read: str) -> None:
    found = said(f"import aesedge; {LOAD}; {SHOW}", **{variable: value})
    assert read in found
    assert f"card: {variable}={value}" in found


@needs_gnu
def test_llama_cpp_by_itself_runs_with_its_own_default() -> None:
    before = "import aesedge; from aesedge.system import environment; environment.use_openmp_defaults()"
    found = said(f"{before}; {LOAD}; {SHOW}")
    assert THEIRS in found
    assert OURS not in found
    assert "card: OpenMP's own default" in found


@needs_gnu
@pytest.mark.export
@pytest.mark.skipif(find_spec("torch") is None, reason="needs the extra [export]")
@pytest.mark.parametrize(("order", "read"), [("aesedge, torch", OURS), ("torch, aesedge", THEIRS)])
def test_torch_brings_the_runtime_that_llama_cpp_then_shares(order: str, read: str) -> None:
    found = said(f"import {order}; {LOAD}; {SHOW}")
    assert read in found
    assert ("was loaded before aesedge" in found) == (read == THEIRS)


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
