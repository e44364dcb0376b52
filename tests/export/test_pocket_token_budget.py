"""What fewer image tokens cost: laws of the figures, and the whole measurement on one made-up photograph."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="needs the extra [export]")

from aesedge_export.pocket import faults, figures, photos, token_budget

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export


OPTIONS = ["--no-critiques", "--methods", "cells,pool", "--tokens", "144,49,16"]


def rows_of(n_photos: int, right: bool) -> list[figures.Row]:
    rows = []
    for i in range(n_photos):
        kinds = [("", "")] + [(fault, level) for fault in faults.MAIN_FAULTS for level in figures.LEVELS]
        for fault, level in kinds:
            score = 5.0 if not fault else 4.0 if right else 6.0
            rows.append(figures.Row(f"p{i}", f"p{i}", "", fault, level, score, "", {}))
    return rows


def test_differences_are_taken_picture_by_picture() -> None:
    good, bad = rows_of(4, right=True), rows_of(4, right=False)
    found = {("none", 196): good, ("pool", 98): list(good), ("pool", 49): bad}
    whole, same, worse = token_budget.summarise(found)
    assert whole["pairs"]["value"] == same["pairs"]["value"] == 1
    assert same["pairs, change"] == {"value": 0, "low": 0, "high": 0, "n": 80}
    assert same["score drift"]["value"] == 0
    assert (worse["pairs"]["value"], worse["pairs, change"]["value"]) == (0, -1)
    assert worse["score drift"]["value"] == pytest.approx(2 * 20 / 21)
    assert "named" not in whole


def test_critiques_are_counted_where_there_are_any() -> None:
    rows = rows_of(2, right=True)
    named = [replace(r, critique="The picture is badly out of focus.") for r in rows]
    whole, less = token_budget.summarise({("none", 196): named, ("cls", 16): named})
    assert whole["named"]["value"] == pytest.approx(1 / len(faults.MAIN_FAULTS))
    assert less["named, change"]["value"] == 0
    assert whole["clean called faulty"]["value"] == 1


def test_one_photograph_is_measured_with_every_method_and_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="the extra plot draws")
    cache = tmp_path / "cache"
    (cache / "photos").mkdir(parents=True)
    photo = photos.Photo("p", "p.jpg", photos.HELD_OUT[0], "1", "CC0", "me", "0" * 64, "p", "test")
    cells = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(cells).resize((240, 180), Image.Resampling.BICUBIC).save(photos.photo_path(cache, photo))
    (cache / "provenance.json").write_text(json.dumps([asdict(photo)]), "utf-8")
    out, plot = tmp_path / "budget.json", tmp_path / "budget.png"
    token_budget.main(
        ["--cache", str(cache), "--out", str(out), "--plot", str(plot), *OPTIONS],
    )
    measured = json.loads(out.read_text("utf-8"))["figures"]
    settings = [(f["method"], f["n_image_tokens"]) for f in measured]
    assert settings == [("none", 144), ("cells", 49), ("cells", 16), ("pool", 49), ("pool", 16)]
    assert measured[0]["pairs, change"]["value"] == 0
    assert len(json.loads(out.with_suffix(".rows.json").read_text("utf-8"))) == len(settings) * 21
    assert "cells" in capsys.readouterr().out
    with Image.open(plot) as drawn:
        assert (drawn.format, len(set(drawn.convert("L").tobytes()))) > ("PNG", 2)
