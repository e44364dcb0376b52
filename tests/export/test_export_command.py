"""The export command shows its progress, the parity table and the files."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch", reason="needs the extra [export]")

import tiny_llava
from aesedge_export.cli import export_command
from rich.console import Console

from aesedge.bundle import open_bundle

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "Tiny Model (v1)")


def test_the_bundle_is_installed_under_the_checkpoints_name(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = io.StringIO()
    manifest = export_command(checkpoint, gguf="q8_0, Q4_K_M", license="MIT", console=Console(file=shown, width=120))
    assert open_bundle("Tiny-Model-v1-").manifest == manifest
    text = shown.getvalue()
    for words in ("parity with transformers", "first-token logits", "<= 1.00e-03", "llm-q4_k_m.gguf", "mean KL to F16"):
        assert words in text
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "read checkpoint: done",
        "vision fp32: done",
        "language F16: done",
        "language Q8_0: done",
        "language Q4_K_M: done",
        "parity: done",
        "hashes: done",
    ]


def test_without_parity_it_says_so(checkpoint: Path, tmp_path: Path) -> None:
    shown = io.StringIO()
    export_command(checkpoint, out=tmp_path / "b", gguf="f16", parity=False, console=Console(file=shown, width=120))
    assert "not compared with PyTorch" in shown.getvalue()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, aesedge_export; print(sorted({'torch', 'transformers', 'llama_cpp'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_missing_package_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from aesedge.errors import MissingExtraError\n"
        "import aesedge_export\n"
        "try: aesedge_export.export_checkpoint\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'aesedge[export]'" in done.stdout
