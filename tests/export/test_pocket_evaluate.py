"""Laws of pocket's figures: a judge that knows the truth gets all of it, one that knows nothing gets chance."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("scipy", reason="needs the extra [export]")
pytest.importorskip("torch", reason="needs the extra [export]")

from aesedge_export.pocket import card, evaluate, faults, language, people, photos, phrases
from aesedge_export.pocket import figures as figures_of
from aesedge_export.pocket.evaluators import Judged
from aesedge_export.pocket.judgement import LEAST, MOST, Judgement
from aesedge_export.pocket.questions import YES_NO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three test photographs, as gathering would have."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "photos").mkdir()
    table = []
    for i in range(3):
        photo = photos.Photo(f"p{i}", f"p{i}.jpg", photos.HELD_OUT[0], "1", "CC0", "me", f"{i}" * 64, f"p{i}", "test")
        cells = np.random.default_rng(i).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(cells).resize((240, 180), Image.Resampling.BICUBIC)
        picture.save(photos.photo_path(folder, photo))
        table.append(asdict(photo))
    (folder / "provenance.json").write_text(json.dumps(table), "utf-8")
    return folder


class Knowing:
    """Knows in which order the pictures come, and which questions are asked."""

    def __init__(self) -> None:
        self.asked = 0

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[Judged]:
        levels = figures_of.LEVELS if critiques else figures_of.LADDER
        known = [(f, s) for f in faults.FAULTS for s in levels.values()]
        known = [("", 0.0), *known] if critiques else known
        assert len(known) == len(images)
        margins = [{fault: MOST * s if fault == f else LEAST for fault in faults.FAULTS} for f, s in known]
        thought = [Judgement(0.9 - 0.8 * s, m) for (_, s), m in zip(known, margins, strict=True)]
        return [Judged(10 * j.quality, language.Speaker(j).critique(), j.attributes) for j in thought]

    def answers_about(self, image: Image.Image, questions: Sequence[str]) -> list[str]:
        fault = ("", *faults.FAULTS)[self.asked % (1 + len(faults.FAULTS))]
        self.asked += 1
        names = {**phrases.NAMES, "": "no clear fault"}
        asked = {question.replace("{it}", "this photo"): when_there for question, (_, when_there) in YES_NO.items()}
        name = names[fault].capitalize()
        found = []
        for question in questions:
            if question in asked:
                found.append("Yes." if (fault != "") == asked[question] else "No.")
            else:
                found.append(next(line for line in question.splitlines() if line.endswith(name)))
        return found


class Silent:
    """Gives everything the same."""

    def judge(self, images: Sequence[Image.Image], *, critiques: bool = True) -> list[Judged]:
        return [Judged(5.0, "", dict.fromkeys(phrases.ATTRIBUTES, 5.0))] * len(images)

    def answers_about(self, image: Image.Image, questions: Sequence[str]) -> list[str]:
        return [""] * len(questions)


def figured(judge: evaluate.Evaluator, cache: Path) -> dict:
    sources = photos.gather(cache)
    return figures_of.summarise(evaluate.judge_all(judge, sources, cache, ladder=True, questions=True))


def test_a_judge_that_knows_gets_all_pairs_and_names_all_faults(cache: Path) -> None:
    result = figured(Knowing(), cache)
    assert result["pairs"]["all, all"]["value"] == 1
    assert result["fault named in the critique"]["all, all"]["value"] == 1
    assert result["clean photographs called faulty"]["value"] == 0
    assert result["absent fault named in the critique of a spoilt photograph"]["all, all"]["value"] == 0
    assert result["well formed critiques"]["value"] == 1
    for name in ("score falls with strength", "attribute falls with its own faults"):
        assert all(figure["value"] == pytest.approx(1) for figure in result[name].values())
    assert set(result["attribute falls with its own faults"]) == set(phrases.ATTRIBUTES)
    for kind in ("yes/no", "multiple choice"):
        for pictures in ("clean", "strong faults"):
            assert result[f"{kind} answered rightly, {pictures}"]["value"] == 1
    assert all(figure["value"] in (0, 1, pytest.approx(1)) for figure in figures_of.headline(result).values())


def test_a_judge_that_says_nothing_gets_half_of_the_pairs(cache: Path) -> None:
    result = figured(Silent(), cache)
    assert result["pairs"]["all, all"]["value"] == 0.5
    assert "fault named in the critique" not in result
    assert result["score falls with strength"]["all"]["value"] == 0
    assert all(figure["value"] == 0 for figure in result["attribute falls with its own faults"].values())
    assert result["yes/no answered rightly, clean"]["value"] == 0


def test_interval_draws_whole_photographs() -> None:
    one_photo = figures_of.interval([1, 0, 1, 1], ["a"] * 4)
    assert one_photo["low"] == one_photo["high"] == one_photo["value"] == 0.75
    many = figures_of.interval([1, 0] * 50, [str(i) for i in range(100)])
    assert 0.35 < many["low"] < 0.5 < many["high"] < 0.65


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("This photo is of low quality. The image is badly tilted.", True),
        ("This photo is of low quality. The image is badly tilted", False),
        ("This photo is of low quality. The image is badly tilted. The image is badly tilted.", False),
        ("This photo is of low quality. The image is badly tiltedred.", False),
        ("This photo is of low quality.The image is badly tilted.", False),
        ("The image is badly tilted.", False),
        ("", False),
    ],
)
def test_well_formed(text: str, good: bool) -> None:
    assert figures_of.well_formed(text) is good


PEOPLE = {
    "rank correlation with people": {name: {"value": 0.81, "low": 0.7, "high": 0.9, "n": 150}
                                     for name in ("score", *phrases.ATTRIBUTES)},
    "plain measures": {name: {"value": 0.51, "low": 0.4, "high": 0.6, "n": 150}
                       for name in ("variance of the Laplacian", "contrast")},
    "Pearson": 0.83, "mean distance, points": 0.8,
}  # fmt: skip


def test_card_takes_its_figures_from_the_evaluation(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "provenance.json").write_text((cache / "provenance.json").read_text("utf-8"), "utf-8")
    record = {
        "seconds": {"tower": 1},
        "seed": 0,
        "n_pictures": 4,
        "n_whole": 55,
        "n_rated": 750,
        "photographs": {"train": 5},
    }
    (tmp_path / "training.json").write_text(json.dumps(record), "utf-8")
    knowing = card.write_card(tmp_path, figured(Knowing(), cache), PEOPLE)
    assert f"It names, in most cases: {', '.join(faults.FAULTS)}." in knowing
    assert "All pairs: 100.0 %" in knowing
    silent = card.write_card(tmp_path, figured(Silent(), cache), PEOPLE)
    assert f"It cannot be said to notice: {', '.join(faults.FAULTS)}." in silent
    assert "have not been measured" in silent
    for text in (knowing, silent):
        assert "not taught them" in text
        assert "The University of Texas at Austin" in text
        assert "rank correlation 0.81 [0.70, 0.90]" in text
        assert "| variance of the Laplacian | 0.51" in text
        assert "| contrast | low contrast | " in text
        assert "{" not in text


def test_a_correlation_has_an_interval() -> None:
    found = people.correlation(list(range(50)), [x + 20 * (x % 2) for x in range(50)])
    assert 0.3 < found["low"] < found["value"] < found["high"] < 1
