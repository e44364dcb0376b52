"""The one command that makes pocket: every stage runs, keeps its result and goes on where it was cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from PIL import Image

pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("scipy", reason="needs the extra [export]")

import torch
from aesedge_export.pocket import crops, features, photos, train
from aesedge_export.pocket.efficientnet import EfficientNetLite0
from aesedge_export.pocket.model import load_checkpoint
from aesedge_export.pocket.progress import beside, rank, share_gradients
from aesedge_export.pocket.tokenizer import train_tokenizer
from aesedge_export.pocket.train import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.export


def write_cache(cache: Path, clive: Path) -> None:
    """Two photographs, and three that people rated."""
    for folder in (cache / "photos", cache / "training", clive / "images"):
        folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), []
    for number, split in enumerate(("train", "validation")):
        photo = photos.Photo(split, "p.jpg", "package", "1", "CC0", "me", f"{number}" * 64, split, split)
        cells = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((480, 360), Image.Resampling.BICUBIC).save(photos.photo_path(cache, photo))
        rows.append(asdict(photo))
    (cache / "provenance.json").write_text(json.dumps(rows), "utf-8")
    lines = ["file,source_file,mos,std"]
    for number in range(16):
        cells = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(cells).resize((100, 100)).save(clive / "images" / f"{number}.jpg")
        lines.append(f"{number}.jpg,{number}.bmp,{30 + 3 * number},10")
    (clive / "mos.csv").write_text("\n".join(lines), "utf-8")
    train_tokenizer(cache / "training" / "tokenizer.model", n_conversations=3000)


def test_one_command_goes_from_photographs_to_a_checkpoint_and_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "PER_PART", 5)
    monkeypatch.setattr(train, "LIKED_FROM", 0.3)
    monkeypatch.setattr(train, "pretrained", lambda: EfficientNetLite0().eval())
    cache, clive, out = tmp_path / "cache", tmp_path / "clive", tmp_path / "checkpoint"
    write_cache(cache, clive)
    plan = Plan(cache, clive, tmp_path, seed=0, processes=1, parts=1, language_steps=1)
    train.train(plan, out)
    record = json.loads((out / "training.json").read_text("utf-8"))
    assert list(record["seconds"]) == ["photographs", "tower", "language"]
    assert record["seconds"]["tower"] <= record["seconds"]["language"]  # both at the same time
    tower, language_model = load_checkpoint(out)
    assert tower.code is language_model.code
    photo = Image.open(photos.photo_path(cache, photos.gather(cache)[0]))
    with torch.no_grad():
        quality, margins = tower.judge(*tower.pooled(crops.normalised([photo])))
    assert 0 <= float(quality) <= 1
    assert margins.shape == (1, 14)

    looked = (plan.state / "validation.npz").stat().st_mtime_ns
    capsys.readouterr()
    train.train(replace(plan, language_steps=2), out)
    assert "features: part" not in capsys.readouterr().out
    assert (plan.state / "validation.npz").stat().st_mtime_ns == looked


@pytest.mark.parametrize(("option", "said"), [("clive", "mos.csv"), ("cq100", "metadata.csv")])
def test_missing_folders_are_named(tmp_path: Path, option: str, said: str) -> None:
    plan = Plan(tmp_path / "cache", tmp_path, tmp_path, seed=0, processes=1, parts=1, language_steps=1)
    with pytest.raises(FileNotFoundError, match=said):
        {"clive": lambda: train.read_opinions(plan.clive), "cq100": lambda: list(photos.cq100_sources(plan.cq100))}[
            option
        ]()


def learn(out: Path, n: int) -> None:
    """Each process has its own gradient; each keeps what became of it."""
    weight = torch.nn.Parameter(torch.zeros(3))
    weight.grad = torch.full((3,), float(rank()))
    share_gradients([weight])
    (out / f"{rank()} of {n}").write_text(json.dumps(weight.grad.tolist()))


def test_processes_that_train_together_share_their_gradients(tmp_path: Path) -> None:
    with beside(2, learn, tmp_path, 2):
        pass
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found == {"0 of 2": [0.5] * 3, "1 of 2": [0.5] * 3}
    with beside(1, learn, tmp_path, 1):
        pass
    assert json.loads((tmp_path / "0 of 1").read_text()) == [0.0] * 3


def wait_for_ever(out: Path) -> None:
    """Say which process this is, and stay."""
    new = out / f"{os.getpid()}.new"
    new.touch()
    new.rename(out / f"{os.getpid()}")
    time.sleep(600)


@pytest.mark.skipif(sys.platform == "win32", reason="asks after processes as POSIX does")
def test_no_process_goes_on_when_the_one_that_started_it_was_killed(tmp_path: Path) -> None:
    code = (
        "import test_pocket_train as t, pathlib\n"
        f"with t.beside(2, t.wait_for_ever, pathlib.Path({str(tmp_path)!r})): pass"
    )
    starter = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent)
    try:
        children = wait_until(lambda: [int(p.name) for p in tmp_path.iterdir() if not p.suffix], 2)
    finally:
        starter.kill()
        starter.wait()
    assert wait_until(lambda: [pid for pid in children if not alive(pid)], 2) == children


def test_processes_end_with_an_error_of_the_one_that_started_them(tmp_path: Path) -> None:
    children: list[int] = []

    def fail() -> None:
        with beside(2, wait_for_ever, tmp_path):
            children.extend(wait_until(lambda: [int(p.name) for p in tmp_path.iterdir() if not p.suffix], 2))
            raise ValueError("elsewhere")

    with pytest.raises(ValueError, match="elsewhere"):
        fail()
    assert wait_until(lambda: [pid for pid in children if not alive(pid)], 2) == children


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(find: Callable[[], list[int]], n: int) -> list[int]:
    """Return what is found as soon as it is this many."""
    for _ in range(1800):
        if len(found := find()) == n:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{len(found)} of {n} after three minutes")
