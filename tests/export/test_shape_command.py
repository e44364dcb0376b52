"""A bundle of random weights is made whole or not at all, once, by a function and by a command."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aesedge_export import disk_space
from aesedge_export.random_weights import __main__ as command
from aesedge_export.random_weights import write_shape
from aesedge_export.random_weights.mmproj import MMPROJ_NAME
from tiny_shape import TINY, contents

import aesedge
from aesedge.errors import BundleError, UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_bundle_that_is_there_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "made"
    made = write_shape(TINY, out, vision_types=["fp32"])
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    steps: list[str] = []
    assert write_shape(str(TINY), out, vision_types=["FP32"], progress=lambda step, *_: steps.append(step)) == made
    assert not steps
    assert write_shape(TINY, out, vision_types=["fp32"], mmproj=True) == made
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert after.keys() - before.keys() == {MMPROJ_NAME}
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    "other",
    [
        {"shape": dataclasses.replace(TINY, n_ff=768)},
        {"gguf_types": ["q4_k_m", "q5_k_m"]},
        {"vision_types": ["fp16"]},
        {"reduction": "none"},
        {"seed": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_bundle_that_is_there_is_neither_taken_nor_lost(tmp_path: Path, other: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"shape": TINY, "out": tmp_path / "made", "vision_types": ["fp32"]}
    write_shape(**arguments)
    before = contents(tmp_path / "made")
    with pytest.raises(UsageError, match="there is a bundle already"):
        write_shape(**{**arguments, **other})
    assert contents(tmp_path / "made") == before
    write_shape(**{**arguments, **other}, overwrite=True)
    assert contents(tmp_path / "made") != before
    assert write_shape(**{**arguments, **other})


def test_a_bundle_with_a_file_cut_off_is_not_taken(tmp_path: Path) -> None:
    write_shape(TINY, tmp_path / "made", vision_types=["fp32"])
    llm = tmp_path / "made" / "llm-q4_k_m.gguf"
    whole = llm.read_bytes()
    llm.write_bytes(whole[:-1])
    write_shape(TINY, tmp_path / "made", vision_types=["fp32"], overwrite=True)
    assert llm.read_bytes() == whole


@pytest.mark.parametrize("step", ["mmproj", "vision int8", "language model Q4_K_M", "hashes"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, step: str) -> None:
    def stop(at: str, share: float, detail: str = "") -> None:
        if at == step and share > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shape(TINY, tmp_path / "made", mmproj=True, progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = disk_space.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(BundleError, match="no room"):
        write_shape("llava-1.5-7b", tmp_path / "made")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("llava-1.5-8b", r"unknown shape 'llava-1.5-8b'; there are llava-1.5-7b, llava-1.5-13b, pocket"),
        ("mine:n_embed=256", r"unknown key 'n_embed' of a shape; there are n_embd, .*, tower.intermediate"),
        ("mine:n_embd=many", "n_embd=many: not a number"),
        ("mine:n_embd", "n_embd=: not a number"),
        ("mine:n_embd=0", "n_embd is 0"),
        ("mine:n_embd=100", "n_embd 100 is no multiple of n_head 32"),
        ("mine:n_head=32,n_head_kv=5", "n_head 32 is no multiple of n_head_kv 5"),
        ("mine:n_embd=96", "heads are 3 wide"),
        ("mine:tower.hidden=1000", r"tower.hidden 1000 is no multiple of tower.n_heads 16"),
        ("mine:tower.image_size=224,tower.patch_size=15", r"tower.image_size 224 is no multiple of tower.patch_size"),
        ("mine:tower.patch_size=336", "one patch"),
        ("mine:n_vocab=400", "a vocabulary of 400 is too small"),
        ("../mine:n_embd=64", "is not a name"),
        ("llava-1.5-7b:n_layer=2", "another name"),
    ],
)
def test_a_shape_that_there_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        write_shape(text, tmp_path / "made")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [{"gguf_types": ["q9"]}, {"gguf_types": []}, {"vision_types": ["int4"]}, {"reduction": "magic"}, {"seed": -1}],
    ids=str,
)
def test_an_option_that_there_is_not(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        write_shape(TINY, tmp_path / "made", **options)
    assert not list(tmp_path.iterdir())


def test_the_command_makes_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(tmp_path / "made"), "--shape", str(TINY), "--gguf", "q2_k,F16", "--vision", "fp32", "--mmproj"]
    assert command.main(arguments) == 0
    shown = capsys.readouterr()
    assert "tiny-random" in shown.out
    assert "language model Q2_K: done" in shown.err
    with aesedge.load_model(tmp_path / "made", gguf="q2_k", threads=1, device="cpu") as model:
        assert model.manifest.types("llm") == ["Q2_K", "F16"]
    assert command.main([str(tmp_path / "other"), "--shape", "llava-2"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown shape 'llava-2'")


def test_it_is_made_without_pytorch(tmp_path: Path) -> None:
    absent = ("torch", "transformers", "optimum", "sentencepiece", "tokenizers", "safetensors", "huggingface_hub")
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({absent!r}))\n"
        "from aesedge_export.random_weights import write_shape\n"
        f"write_shape({str(TINY)!r}, {str(tmp_path / 'made')!r}, mmproj=True)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["gguf", "onnx"])
def test_without_the_extra_it_says_which_one(tmp_path: Path, package: str) -> None:
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from aesedge_export.random_weights.__main__ import main\n"
        f"sys.exit(main([{str(tmp_path / 'made')!r}, '--shape', 'pocket']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'aesedge[convert]'" in done.stderr
