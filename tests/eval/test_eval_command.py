"""The commands ``eval ratings`` and ``eval aesbench``, on drawn photos."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import eval_runner
import pytest
from cli_runner import Cli, photos
from PIL import Image
from test_aesbench import ENTRY

import aesedge
from aesedge.eval.aesbench import matched_letter
from aesedge.eval.published import DIMENSIONS, dimension_of, published
from aesedge.system.paths import data_folder

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("scipy")
run, table = eval_runner.run, eval_runner.table  # fixtures


def figures(out: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out)
    found.pop("seconds")
    return found


def test_the_figures_as_a_table_as_json_and_as_a_plot(run: Any, table: Path, tmp_path: Path) -> None:
    code, out, err = run("ratings", table, "--plot", tmp_path / "p.png")
    assert (code, err) == (0, "")
    assert "photographs           7\n" in out
    assert "columns 'file' and 'mos', scores out of 0 to 100" in out
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == (1240, 640)
    code, out, _ = run("ratings", table, "--json")
    found = figures(out)
    assert (code, found["n"], len(found["srcc"]), sum(pair["n_pairs"] for pair in found["pairs"])) == (0, 7, 3, 21)


def test_what_was_stopped_goes_on(run: Any, table: Path, tmp_path: Path) -> None:
    expected = figures(run("ratings", table, "--json")[1])
    log = tmp_path / "out" / "scores.jsonl"
    assert figures(run("ratings", table, "--json", "--out", tmp_path / "out")[1]) == expected
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:4]) + lines[4][:9])  # stopped in the middle of the fourth photo's line
    assert figures(run("ratings", table, "--json", "--out", tmp_path / "out")[1]) == expected
    assert sorted(log.read_bytes().splitlines()) == sorted(line.rstrip() for line in lines)


def test_scores_of_other_settings_are_not_continued(run: Any, table: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for content, said in (
        (b'{"settings":{}}\n', "other settings (bundle, gguf, "),
        (b"hello\n", "is no log of an evaluation"),
    ):
        (tmp_path / "out" / "scores.jsonl").write_bytes(content)
        code, _, err = run("ratings", table, "--out", tmp_path / "out")
        assert code == 2
        assert said in err
        assert (tmp_path / "out" / "scores.jsonl").read_bytes() == content


def test_a_log_whose_records_are_none_is_refused(run: Any, table: Path, tmp_path: Path) -> None:
    log = tmp_path / "out" / "scores.jsonl"
    assert run("ratings", table, "--out", tmp_path / "out")[0] == 0
    header = log.read_bytes().splitlines(keepends=True)[0]
    for record in (b"{}", b"3", b'{"state":[1,2],"score":"x","attributes":{}}'):
        log.write_bytes(header + b'["photo 0.png",' + record + b"]\n")
        code, _, err = run("ratings", table, "--out", tmp_path / "out")
        assert (code, err.count("\n")) == (2, 1)
        assert "is no log of an evaluation" in err


def test_a_bad_row_and_a_broken_picture_cost_a_line_each(run: Any, table: Path, tmp_path: Path) -> None:
    with table.open("a") as file:
        file.write("gone.jpg,5\nbroken.jpg,6\n")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    code, out, err = run("ratings", table, "--json")
    broken, found = out.splitlines()
    assert (code, figures(found)["n"], err.count("\n")) == (1, 7, 2)
    assert json.loads(broken)["photo"].endswith("broken.jpg")
    assert "gone.jpg is not in" in err
    assert "broken.jpg: is not an image" in err


@pytest.mark.parametrize("scale", ["5", "5:1", "a:b", "1:1"])
def test_a_scale_that_is_none(run: Any, table: Path, scale: str) -> None:
    code, out, err = run("ratings", table, "--scale", scale)
    assert (code, out) == (2, "")
    assert f"--scale {scale}: write the lowest and the highest score" in err


def test_aesbench_is_asked_and_resumed(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "AesBench"
    folder.mkdir()
    images = photos(folder, 3)
    (folder / "AesBench_evaluation.json").write_text(json.dumps({path.name: ENTRY for path in images}))
    out_folder = tmp_path / "out"
    code, out, err = run("aesbench", folder, "--out", out_folder, "--json")
    found = json.loads(out)
    assert (code, err, found["n"]) == (0, "", 12)
    by_task = {one["task"]: one for one in found["accuracy"]}
    assert {task: one["n"] for task, one in by_task.items()} == {"AesE": 3, "AesA1": 3}
    assert found["assessment"]["majority"] == 1.0
    assert sum(map(sum, (row.values() for row in found["assessment"]["confusion"].values()))) == 3
    for task in ("AesP", "AesE", "AesA1", "AesI"):
        content = json.loads((out_folder / f"test_{task}.json").read_bytes())
        assert [list(one) for one in content.values()] == [[f"{task}_response"]] * 3
    log = (out_folder / "replies.jsonl").read_bytes()
    (out_folder / "replies.jsonl").write_bytes(log[: len(log) // 2])
    assert json.loads(run("aesbench", folder, "--out", out_folder, "--json")[1]) == found
    assert "most frequent level alone" in run("aesbench", folder, "--out", out_folder)[1]


def test_right_answers_are_counted_to_the_item(run: Any, tmp_path: Path) -> None:
    """A benchmark whose right answers are made from the model's letters: three of five."""
    folder, out_folder = tmp_path / "AesBench", tmp_path / "out"
    folder.mkdir()
    images = [path.name for path in photos(folder, 5)]
    part = {"Question": "Is it sharp?", "Options": "A) Yes\nB) No\nC)Perhaps", "Dimension": "Content", "Type": "Yes-No"}
    file = folder / "AesBench_evaluation.json"
    file.write_text(json.dumps({name: {"AesE_data": part} for name in images}))
    assert "No right answers are known" in run("aesbench", file, "--out", out_folder)[1]
    log = (out_folder / "replies.jsonl").read_bytes().splitlines()[1:]
    letters = {key: max(odds, key=odds.get) for key, (_, odds) in map(json.loads, log)}
    wrong = {"A": "B", "B": "C", "C": "A"}
    answers = [letters[f"AesE:{name}"] if i < 3 else wrong[letters[f"AesE:{name}"]] for i, name in enumerate(images)]
    file.write_text(json.dumps({
        name: {"AesE": {**part, "Answer": answer}} for name, answer in zip(images, answers, strict=True)
    }))  # fmt: skip
    texts = json.loads((out_folder / "test_AesE.json").read_text(encoding="ascii"))  # as scripts of any locale read it
    options = {"A": "Yes", "B": "No", "C": "Perhaps"}
    by_text = [
        matched_letter(texts[name]["AesE_response"], options) == answer
        for name, answer in zip(images, answers, strict=True)
    ]
    found = json.loads(run("aesbench", file, "--out", out_folder, "--json")[1])
    for one in found["accuracy"]:
        assert (one["n"], one["by_probability"], one["by_text"]) == (5, 3 / 5, sum(by_text) / 5)
    assert [one["group"] for one in found["accuracy"]] == [None, "Content", "Yes-No"]


def test_a_report_names_the_command_versions_and_hashes(run: Any, table: Path, tmp_path: Path) -> None:
    assert run("ratings", table, "--report", tmp_path / "r.md")[0] == 0
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    assert f"| data | ratings.csv, SHA-256 `{digest}` |" in text
    assert f"| aesedge | {aesedge.__version__} |" in text
    assert re.search(r"^- vision: fp32\n", text, re.MULTILINE)
    assert re.search(r"^- vision_sha256: [0-9a-f]{64}\n- |^- llm_sha256: [0-9a-f]{64}\n", text, re.MULTILINE)
    assert "photographs           7\n" in text
    assert "\x1b" not in text


def test_a_plot_as_svg_is_the_same_each_time(run: Any, table: Path, tmp_path: Path) -> None:
    drawn = []
    for name in ("a.svg", "b.svg"):
        assert run("ratings", table, "--out", tmp_path / "out", "--plot", tmp_path / name)[0] == 0
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0].startswith(b"<?xml")
    assert drawn[0] == drawn[1]


def test_the_radar_chart_needs_dimensions(run: Any, tmp_path: Path) -> None:
    folder = tmp_path / "AesBench"
    folder.mkdir()
    names = ["Technical quality", "Color & light", "composition", "Content", "Something"]
    entries = {}
    for path, name in zip(photos(folder, len(names)), names, strict=True):
        part = {"Question": "Is it?", "Options": "A) Yes\nB) No", "Answer": "A", "Dimension": name}
        entries[path.name] = {"AesP_data": part}
    file = folder / "AesBench_evaluation.json"
    file.write_text(json.dumps(entries))
    assert run("aesbench", file, "--plot", tmp_path / "radar.png")[::2] == (0, "")
    with Image.open(tmp_path / "radar.png") as image:
        assert image.size == (1160, 760)
    file.write_text(json.dumps(dict(list(entries.items())[-2:])))
    code, _, err = run("aesbench", file, "--plot", tmp_path / "none.png")
    assert (code, (tmp_path / "none.png").exists()) == (2, False)
    assert "name 1 of AesBench's dimensions" in err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("color & light", "Color and light"),
        ("Comp.", "Composition"),
        ("Vibe", "Vibe"),
        ("EMOTION", "Emotion"),
        ("", None),
        ("x", None),
    ],
)
def test_dimensions_of_any_spelling(name: str, expected: str | None) -> None:
    assert dimension_of(name) == expected


def test_the_published_table_is_whole() -> None:
    table = published()
    assert "arXiv" in table.source
    for of_model in table.models.values():
        assert set(DIMENSIONS) < set(of_model)


def test_score_adds_people_s_opinion_by_the_line_that_was_fitted(
    run: Any, capsys: pytest.CaptureFixture[str], bundle_folder: Path, table: Path
) -> None:
    cli, photo = Cli(capsys, bundle_folder), table.parent / "photo 3.png"
    code, out, err = cli("score", photo, "--people")
    assert (code, out) == (2, "")
    assert "no line to people's ratings for these settings; 'aesedge eval ratings TABLE --fit' makes one" in err
    assert run("ratings", table, "--fit")[0] == 0
    slope, intercept = figures(run("ratings", table, "--json")[1])["line"]
    found = json.loads(cli("score", photo, "--people", "--json")[1])
    assert found["people"] == pytest.approx(min(10, max(0, slope * found["score"] + intercept)), abs=1e-5)
    assert f"  people {found['people']:4.1f}  " in cli("score", photo, "--people")[1]
    (path,) = (data_folder() / ".people").iterdir()
    path.write_text('{"slope": 1e9}')
    assert "cannot be used" in cli("score", photo, "--people")[2]
    assert cli("bundles", load=False)[0] == 0  # the folder beside the bundles is none
