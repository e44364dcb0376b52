"""The export command shows its progress, the parity table and the files."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tiny import plain

pytest.importorskip("torch", reason="needs the extra [export]")

import tiny_llava
from aesedge_export.cli import export_command
from conftest import drawn_photo

from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava.write_hf(tmp_path_factory.mktemp("hf") / "Tiny Model (v1)")


def test_the_bundle_is_installed_under_the_checkpoints_name(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = export_command(checkpoint, gguf="q8_0, Q4_K_M", vision="fp32", license="MIT")
    assert open_bundle("Tiny-Model-v1-").manifest == made.manifest
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "read checkpoint: done",
        "vision fp32: done",
        "language model: done",
        "parity: PyTorch, images: done",
        "parity: vision fp32: done",
        "parity: Q8_0: done",
        "parity: score of vision fp32: done",
        "parity: PyTorch: done",
        "parity: Q4_K_M: done",
        "hashes: done",
    ]


def test_the_command_shows_what_was_measured(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "b"), "--gguf", "q8_0,q2_k"]) == 0
    text = capsys.readouterr().out
    for words in ("compared with  transformers", "first-token logits", "verdict", "llm-q2_k.gguf", "vision-int8.onnx"):
        assert words in text


def test_quality_of_fewer_image_tokens_is_measured_after_the_export(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b"
    options = ["--gguf", "f16", "--vision", "fp32", "--no-parity", "--quality", str(SAMPLE_PHOTOS[0])]
    assert main(["export", str(checkpoint), "--out", str(out), *options]) == 2
    assert "has 16 image tokens and cannot reduce them" in capsys.readouterr().err  # so few are always all taken
    assert main(["verify", str(out)]) == 0


def test_without_parity_it_says_so(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(checkpoint), "--out", str(tmp_path / "b"), "--gguf", "f16", "--no-parity"]) == 0
    assert "not with PyTorch: not asked for" in capsys.readouterr().out


def test_a_folder_of_photos_to_calibrate_on(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    options = ["--gguf", "q4_0", "--vision", "fp32", "--no-parity", "--json", "--quiet"]
    command = [
        "export",
        str(checkpoint),
        "--out",
        str(tmp_path / "b"),
        *options,
        "--calibrate",
        str(tmp_path / "photos"),
    ]
    assert main(command) == 2
    assert "no photos in this folder" in capsys.readouterr().err
    drawn_photo(1, (90, 60)).save(tmp_path / "photos" / "a.png")
    assert main(command) == 0
    out, err = capsys.readouterr()
    made = open_bundle(tmp_path / "b")
    printed = json.loads(out)
    assert (printed["bundle"], printed["folder"], err) == ("b", str(tmp_path / "b"), "")
    assert [f["bytes"] for f in printed["files"]] == [f.n_bytes for f in made.manifest.files]
    assert made.manifest.types("imatrix") == ["gguf"]
    assert plain(made.manifest.fidelity)["importance"] == {"photos": ["a.png"]}


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
