"""What counts as a well formed text, and that every path on which a bundle writes is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import open_tiny
from PIL import Image

pytest.importorskip("scipy", reason="needs the extra [export]")

from aesedge_export.pocket import well_formed
from aesedge_export.pocket.judgement import draw_judgement
from aesedge_export.pocket.talk import conversation, drill
from aesedge_export.pocket.well_formed import QUESTIONS, TALKS, check_texts, defects, shares

from aesedge import GenerationOptions
from aesedge.bundle.bundle import open_bundle

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.export

CHOICE = "Which one? Choose one from the following options:\nA) Motion blur\nB) Noise"


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("The brightness is well balanced. Muted colors keep it calm.", ""),
        ("I was not taught that; I judge how it was taken.", ""),
        ("Yes.", "Is it sharp?"),
        ("The photo's light is soft, and 3.5 stops too dark!", ""),
        ("The colors are over-saturated. Warm colors set the mood.", ""),
        ("A) Motion blur", CHOICE),
        ("B", CHOICE),
        ("Noise.", CHOICE),
    ],
)
def test_well_formed_texts(text: str, question: str) -> None:
    assert defects(text, question) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("The camera was held straight.tical subject keeps it simple.", "glued"),
        ("The content is easy to read. I can't tell.ders.", "no word: 'ders'"),
        ("The image is ticalaturation.", "no word: 'ticalaturation'"),
        ("The image is sharp,and clear.", "glued"),
        ("good.", "begins with no capital"),
        ("The image is sharp", "ends without a full stop"),
        ("High", "ends without a full stop"),
        ("The image is sharp. it is clear.", "small letter"),
        ("The image is sharp. The image is sharp.", "twice"),
        ("The image is very very sharp.", "loop"),
        ("The image is sharp and clear and clear and clear.", "loop"),
        ("The image  is sharp.", "space"),
        ("The image is sharp .", "space"),
        ("The image is sharp. ", "space"),
        ("The image is \ufffd sharp.", "half"),
    ],
)
def test_defects_are_found(text: str, reason: str) -> None:
    assert reason in "; ".join(defects(text))


def test_an_answer_that_does_not_end_is_one() -> None:
    assert defects("The image is sharp.", ended=False) == ["does not end"]
    assert defects("Noise.", words=frozenset({"blur"})) == ["no word: 'Noise'"]


def test_everything_that_is_taught_is_well_formed() -> None:
    rng = np.random.default_rng(5)
    for n in range(300):
        judgement = draw_judgement(rng, n % 4)
        for question, answer in [*conversation(judgement, rng), *drill(judgement, rng)]:
            assert defects(answer, question) == [], answer


def test_every_path_of_a_bundle_is_looked_at(bundle_folder: Path, photo_path: Path) -> None:
    with open_tiny(bundle_folder, ctx=2048) as model, Image.open(photo_path) as image:
        n_fields = len(model.manifest.rating.attributes) + 3
        texts = check_texts(model, [("a", image)], options=GenerationOptions(max_tokens=4))
    assert len(texts) == 1 + n_fields + len(QUESTIONS) + sum(map(len, TALKS))
    found = shares(texts)
    assert {"critique", "ask", "report: advice", "report: strengths", "chat, turn 3", "all"} <= found.keys()
    assert found["all"]["value"] == 0  # random weights write no English


def test_the_command_prints_shares_and_what_failed(
    photo_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(well_formed, "QUESTIONS", QUESTIONS[:3])
    monkeypatch.setattr(well_formed, "TALKS", TALKS[:1])
    out = tmp_path / "texts.json"
    well_formed.main(["--bundle", "pocket", "--out", str(out), str(photo_path)])
    printed = capsys.readouterr().out
    assert f"report: {next(iter(open_bundle('pocket').manifest.rating.attributes))}" in printed
    assert out.stat().st_size > 1000
