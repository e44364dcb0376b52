"""Run every example of docs/python.md, as it stands there, with pocket and real photos."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from aesedge.samples import SAMPLE_PHOTOS

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^#+ (.+)\n((?:(?!^#+ [A-Z]).*\n)*)", PAGE, re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = {title: code for title, text in SECTIONS for code in BLOCK.findall(text)}

# What each example prints, of two photos; the texts themselves are pocket's.
PRINTED = {
    "Python": r"\d\.\d+\nYes\.\n",
    "Score a folder": r" \d\.\d  china.jpg\n *\d\.\d  flower.jpg\nnotes.txt: .*not.*\n",
    "Stream": r"(.+\n)+\(\d+ tokens, stop\)\n",
    "Chat": r"Yes\.\n.+\n.+\n\['Is this image clear\?'\]\n",
    "Answers that fit a JSON schema": r"(high|medium|low)\n",
    "Threads": r"china.jpg: .+\nflower.jpg: .+\n",
    "FastAPI": "",
}


def test_every_example_is_run() -> None:
    assert list(EXAMPLES) == list(PRINTED)
    assert PAGE.count("```python") == len(EXAMPLES)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the examples expect it."""
    (tmp_path / "photos").mkdir()
    shutil.copy(SAMPLE_PHOTOS[1], tmp_path / "a.jpg")
    for path in SAMPLE_PHOTOS:
        shutil.copy(path, tmp_path / "photos")
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("title", [title for title in PRINTED if title != "FastAPI"])
def test_example(title: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(title)
    out = capsys.readouterr().out
    assert re.fullmatch(PRINTED[title], out), out


def test_fastapi(photos: Path) -> None:
    pytest.importorskip("fastapi")
    testing = pytest.importorskip("fastapi.testclient")
    names = run("FastAPI")
    with testing.TestClient(names["app"]) as client:
        body = {"content": (photos / "a.jpg").read_bytes(), "headers": {"content-type": "image/jpeg"}}
        rating = client.post("/score", **body).json()
        assert list(rating) == ["score", "probabilities", "entropy", "off_label"]
        assert 0 <= rating["score"] <= 10
        assert re.fullmatch(r"[A-Z].+\.", client.post("/critique", **body).text)


def run(title: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[title], f"docs/python.md, {title}", "exec"), names)  # noqa: S102 (our own page)
    return names
