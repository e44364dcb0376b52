"""``eval compare``: settings on the same photographs and questions, and what is written into the manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import bench_results
import eval_runner
import msgspec
import pytest
from cli_runner import photos
from test_aesbench import ENTRY

from aesedge.bench.run_info import make_run_info
from aesedge.bench.tables import card_facts
from aesedge.bundle.bundle import open_bundle, replace_manifest
from aesedge.bundle.fidelity import ComparedSetting
from aesedge.cli import main
from aesedge.cli.bench_text import card_text
from aesedge.engine.model import load_model
from aesedge.eval import statistics
from aesedge.eval.compare import loses_nothing_measurable
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("scipy")
run, table = eval_runner.run, eval_runner.table  # fixtures
KV_TYPES = ("--kv-types", "f16,q8_0")


@pytest.fixture
def bundle(bundle_folder: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, whose manifest may be written."""
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


def test_settings_are_compared_on_the_same_photos(run: Any, table: Path, tmp_path: Path) -> None:
    code, out, err = run("compare", table, *KV_TYPES, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    first, second = found["settings"]
    assert (found["measure"], found["n"], first["drift"], "change" in first) == ("srcc", 7, 0, False)
    assert second["change_low"] <= second["change"] <= second["change_high"]
    assert found["recommended"] in {first["name"], second["name"]}
    code, out, _ = run("compare", table, *KV_TYPES, "--report", tmp_path / "c.md")
    assert "reference" in out
    assert "measured on 7 photographs" in out
    assert "The fastest that loses nothing measurable" in (tmp_path / "c.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "two settings at least"),
        (("--kv-types", "f16,f16"), "is there twice"),
        (("--types", "f32,q9_9"), "has no GGUF type 'q9_9'"),
        (("--precisions", "fp32,fp8"), "has no vision precision 'fp8'"),
        (("--kv-types", "f16,q3"), "q3"),
        (("--tokens", "1,x"), "--tokens x: is no number"),
        (("--tokens", "99999,4"), "image-tokens"),
        ((*KV_TYPES, "--scale", "5:1"), "--scale 5:1"),
        ((*KV_TYPES, "--score-column", "none"), "no column none"),
    ],
)
def test_wrong_calls_are_told_before_anything_is_computed(run: Any, table: Path, arguments: Any, said: str) -> None:
    code, out, err = run("compare", table, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_ratings_that_are_all_the_same_are_told(run: Any, table: Path) -> None:
    names = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    table.write_text("file,mos\n" + "".join(f"{name},50\n" for name in names))
    code, out, err = run("compare", table, *KV_TYPES)
    assert (code, out, "all 7 photographs the same rating" in err) == (2, "", True)


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    folder = tmp_path / "AesBench"
    folder.mkdir()
    images = photos(folder, 4)
    (folder / "AesBench_evaluation.json").write_text(json.dumps({path.name: ENTRY for path in images}))
    return folder


def test_settings_are_compared_on_questions_by_mcnemar_s_test(run: Any, questions: Path, tmp_path: Path) -> None:
    out_folder = tmp_path / "out"
    code, out, err = run("compare", questions, *KV_TYPES, "--out", out_folder, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert (found["measure"], found["n"]) == ("accuracy", 8)  # those whose right answer is known
    right = []
    for path in sorted(out_folder.iterdir()):
        replies = dict(map(json.loads, path.read_bytes().splitlines()[1:]))
        letters = {key: max(odds, key=odds.get) for key, (_, odds) in replies.items()}
        right.append([letters[key] == "B" for key in sorted(letters)])  # both right answers are B
    first, second = found["settings"]
    assert [first["agreement"], second["agreement"]] == [sum(of_setting) / 8 for of_setting in right]
    assert second["p_value"] == statistics.mcnemar(*right)
    assert {"text_agreement", "text_change", "text_p_value", "drift"} <= set(second)
    assert "per_minute" in second
    again = json.loads(run("compare", questions, *KV_TYPES, "--out", out_folder, "--json")[1])
    assert "per_minute" not in again["settings"][1]  # nothing was asked again
    assert again["settings"][1]["p_value"] == second["p_value"]
    text = run("compare", questions, *KV_TYPES, "--out", out_folder)[1]
    assert "by text" in text
    assert "measured on 8 questions" in text


def test_questions_without_right_answers_are_told(run: Any, questions: Path) -> None:
    file = questions / "AesBench_evaluation.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps({name: {"AesP_data": entry["AesP_data"]} for name, entry in entries.items()}))
    code, _, err = run("compare", questions, *KV_TYPES)
    assert (code, "no right answers are known" in err) == (2, True)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({}, True),  # the reference
        ({"change": -0.1, "change_high": 0.0}, True),
        ({"change": -0.1, "change_high": -0.001}, False),
        ({"change": 0.2, "change_high": 0.3}, True),
        ({"change": -0.1, "change_high": -0.05, "p_value": 0.06}, True),  # questions: the test decides
        ({"change": -0.1, "p_value": 0.04}, False),
        ({"change": 0.1, "p_value": 0.001}, True),
        ({"change": 0.1, "p_value": 0.5, "text_change": -0.1, "text_p_value": 0.01}, False),
    ],
)
def test_what_counts_as_a_loss(figures: dict[str, float], expected: bool) -> None:
    assert loses_nothing_measurable(ComparedSetting(**figures)) == expected


def test_the_recommended_setting_is_written_into_the_manifest(
    run: Any, table: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "manifest.json").read_bytes()
    assert run("compare", table, *KV_TYPES, bundle=bundle)[0] == 0
    assert (bundle / "manifest.json").read_bytes() == before
    code, out, err = run("compare", table, *KV_TYPES, "--write", "--json", bundle=bundle)
    assert (code, "written into" in err) == (0, True)
    manifest = open_bundle(bundle).manifest
    kept = manifest.fidelity.comparison
    assert kept is not None
    assert kept.best is not None
    assert kept.best.name == json.loads(out)["recommended"]
    assert (kept.n, kept.data, len(kept.settings)) == (7, "ratings.csv", 2)
    assert kept.data_sha256 == hashlib.sha256(table.read_bytes()).hexdigest()
    digests = {file.path: file.sha256 for file in manifest.files}
    assert kept.files == {path: digests[path] for path in ("llm-f32.gguf", "vision-fp32.onnx")}
    assert kept.date.startswith("20")
    assert main(["info", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert f"The fastest that loses nothing measurable: {kept.best.name}" in shown
    assert f"ratings.csv, SHA-256 {kept.data_sha256[:12]}" in shown
    assert "other files now" not in shown
    assert max(len(line) for line in shown.partition("compared by eval compare")[2].splitlines()) <= 100


def test_bench_shows_the_recommended_setting(run: Any, table: Path, bundle: Path) -> None:
    assert run("compare", table, *KV_TYPES, "--write", bundle=bundle)[0] == 0
    with load_model(bundle, threads=1, device="cpu") as model:
        card = make_run_info(model, SAMPLE_PHOTOS[:1], repetitions=1, seconds=1)
    assert "lost nothing measurable in eval compare (ratings.csv, 7 photographs, 20" in card.recommended
    assert f"recommended: {card.recommended[:20]}" in card_text(card)
    assert dict(card_facts(card))["recommended"] == card.recommended
    assert "recommended" not in card_text(bench_results.card())


def test_a_comparison_of_other_files_says_so(
    run: Any, table: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("compare", table, *KV_TYPES, "--write", bundle=bundle)[0] == 0
    opened = open_bundle(bundle)
    kept = opened.manifest.fidelity.comparison
    assert kept is not None
    other = msgspec.structs.replace(kept, files={**kept.files, "llm-f32.gguf": "0" * 64}, recommended=7)
    fidelity = msgspec.structs.replace(opened.manifest.fidelity, comparison=other)
    replace_manifest(opened, msgspec.structs.replace(opened.manifest, fidelity=fidelity))
    assert main(["info", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert "other files now  llm-f32.gguf" in shown
    assert "The fastest" not in shown  # a manifest is foreign input


def test_a_folder_that_cannot_be_written_is_told(
    run: Any, table: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("aesedge.bundle.bundle.write_atomic", refuse)
    code, out, err = run("compare", table, *KV_TYPES, "--write", bundle=bundle)
    assert (code, "recommended" in out or "The fastest" in out) == (2, True)
    assert "cannot be written: Permission denied; copy the bundle" in err
