"""`aesedge bench` from end to end: every row of pocket, what stops it, what it refuses; the shape of rounds."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runner import START
from PIL import Image

from aesedge.bench.benchmark import BenchmarkRun, BenchOptions
from aesedge.bench.fixture import Fixture, NewPhotos
from aesedge.bench.predict import budgets_of
from aesedge.bench.result import Result, Row, load_result, percentile
from aesedge.bench.rounds import Measurement, Sample, run_rounds
from aesedge.bench.timing import open_raw_timer
from aesedge.bundle.bundle import open_bundle
from aesedge.cli import main
from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.engine.model import load_model
from aesedge.errors import UsageError
from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS

MANIFEST = open_bundle("pocket").manifest
PLAN = make_plan(Options(vision="fp32"), open_bundle("pocket"))
N = MANIFEST.image_tokens.max
VISION = f"vision {PLAN.vision.lower()}"
ROWS = {
    "load": ["load"],
    "image": ["decode image", "decode image 12 MP", "preprocess", VISION],
    "language": [f"pp{N}", f"pp{N} img", "tg128", "tg128 @ d", "q1x32 @ img", "q4x32 @ img"],
    "photo": [
        "score @ img",
        f"score{1 + len(MANIFEST.rating.attributes)} @ img",
        "ttft cold",
        "ttft embeddings",
        "ttft kv",
        "photos score",
        "photos critique",
    ],
    "memory": ["peak RSS", "device memory"],
}


def run(*given: object) -> subprocess.CompletedProcess[str]:
    """Run it in a process of its own, as users do."""
    command = [sys.executable, "-m", "aesedge", "bench", *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "pocket.json"
    run("--seconds", "30", "-r", "2", "--vision", "fp32", "-o", path)
    return path


@pytest.fixture(scope="module")
def result(written: Path) -> Result:
    return load_result(written)


def test_every_row_is_there_and_filled(result: Result) -> None:
    found = {
        group: [re.sub(r"@ d\d+$", "@ d", row.test) for row in result.rows if row.group == group] for group in ROWS
    }
    assert found == ROWS
    (depth,) = (row.n_depth for row in result.rows if re.search(r"@ d\d+$", row.test))
    assert N < depth < N + 128
    assert depth % 64 == 0
    assert result.ok
    for row in result.rows:
        if row.group == "memory":
            assert row.n_bytes is not None
        else:
            assert len(row.samples_ns) >= (1 if row.test == "load" else 2), row.test
            assert row.excludes or row.test == VISION, row.test


def test_the_card_says_what_was_measured(result: Result) -> None:
    card = result.card
    files = {("llm", PLAN.gguf.lower()), ("vision", PLAN.vision.lower())}
    assert {file["sha256"] for file in card.files} == {
        file.sha256 for file in MANIFEST.files if (file.role, file.type.lower()) in files
    }
    # Three layers of four attention matrices and three of the feed-forward part; the head multiplies last tokens only.
    assert card.macs_per_token == 3 * (4 * 256 * 256 + 3 * 256 * 512)
    assert card.kv_bytes_per_position == 2 * 3 * 256 * 2
    assert 0 < card.bytes_per_token < card.model_size
    assert card.plan["n_image_tokens"] == N
    assert card.ceilings["read_bytes_per_s"] > 0
    assert card.power


def test_times_of_states_are_in_their_order(result: Result) -> None:
    cold, embeddings, kv = (next(r for r in result.rows if r.test == f"ttft {s}") for s in ("cold", "embeddings", "kv"))
    assert [row.cache_state for row in (cold, embeddings, kv)] == ["cold", "embeddings", "kv"]
    assert cold.parts_s["vision_s"] > 0
    assert embeddings.parts_s["vision_s"] == 0
    assert kv.median_s < cold.median_s
    assert sum(cold.parts_s.values()) == pytest.approx(cold.median_s, rel=0.5)


def test_shares_of_ceilings_are_shares(result: Result) -> None:
    shares = {row.test: row.percent_of for row in result.rows if row.percent_of}
    assert shares["tg128"].keys() == {"read bandwidth"}  # of more than all, where weights stay in the caches
    assert all(percent > 0 for share in shares.values() for percent in share.values())
    assert all(share.get("int8 peak", 0) < 130 for share in shares.values())


def test_reference_and_predictions_are_there(result: Result) -> None:
    assert result.quality is not None
    assert "the setting is the reference itself" in result.quality.note
    assert [p.n_image_tokens for p in result.predictions] == budgets_of(MANIFEST.image_tokens.min, N)[1:]
    assert all(0 < p.score_s < p.critique_s for p in result.predictions)


def test_json_has_what_follows_from_the_samples(written: Path, result: Result) -> None:
    rows = {row["test"]: row for row in json.loads(written.read_text(encoding="utf-8"))["rows"]}
    for row in result.rows:
        if row.samples_ns:
            assert rows[row.test]["avg_ns"] == pytest.approx(sum(row.samples_ns) / len(row.samples_ns))
            assert rows[row.test]["p95_ns"] <= max(row.samples_ns)


def test_fewer_image_tokens_have_a_quality_beside_their_speed(tmp_path: Path) -> None:
    path = tmp_path / "fewer.json"
    run("--image-tokens", "49", "--seconds", "2", "-r", "1", "-o", path)
    result = load_result(path)
    assert result.quality is not None
    assert result.quality.n_photos == 2
    assert result.quality.worst_score_drift >= result.quality.score_drift > 0
    assert {"pp49", "pp49 img", "tg128 @ d128"} <= {row.test for row in result.rows}


def test_a_shape_is_built_once_and_says_that_it_is_random(tmp_path: Path) -> None:
    shape = "tiny:n_embd=64,n_ff=128,n_head=2,n_layer=2,n_vocab=2048,tower.image_size=56,tower.hidden=32,"
    shape += "tower.n_heads=2,tower.n_layers=2,tower.intermediate=64"
    given = ["--shape", shape, "--gguf", "q8_0", "--seconds", "2", "-r", "1", "--against", "mtmd", "-q"]
    run(*given, "-o", tmp_path / "a.json")
    result = load_result(tmp_path / "a.json")
    assert result.card.random_weights == "tiny"
    assert {"photo to score", "vision"} <= {a.test for a in result.against}
    assert result.reference.startswith("libmtmd of llama-cpp-python")
    assert {p.gguf for p in result.predictions} >= {"q4_0", "q4_k_m"}
    begun = time.monotonic()
    out = run(*given[:-3], "-o", tmp_path / "a.jsonl")
    assert "made" not in out.stderr
    assert time.monotonic() - begun < 60
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["kind"] for line in lines} == {"card", "row", "quality", "prediction"}


def test_a_kept_result_is_shown_again_in_any_form(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "show", str(written)]) == 0
    shown = capsys.readouterr().out
    assert f"pp{N}" in shown
    csv = written.with_suffix(".csv")
    assert main(["bench", "show", str(written), "-o", str(csv)]) == 0
    assert capsys.readouterr().out == f"{shown}\nWritten to {csv}.\n"
    assert f"pp{N}" in csv.read_text(encoding="utf-8")
    assert main(["bench", "show", str(csv)]) == 2
    assert f"{csv}: " in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    command = [sys.executable, "-c", START, "bench", "--seconds", "100", "-r", "100", "--no-quality", "-o", str(path)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.rglob("*.jpg"))) < 12 and time.monotonic() < deadline:  # new photos: it measures
            time.sleep(0.2)
        time.sleep(5)
        process.send_signal(signal.SIGINT)
        asked = time.monotonic()
        _, said = process.communicate(timeout=30)
    assert time.monotonic() - asked < 10
    assert process.returncode == 130, said
    assert "what was measured by then was kept" in said
    assert "Traceback" not in said
    result = load_result(path)
    assert not result.ok
    assert any(row.samples_ns for row in result.rows if row.group != "load")
    assert not list(tmp_path.rglob("*.jpg"))


def test_no_new_photo_comes_twice(tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    read_image(SAMPLE_PHOTOS[0]).resize((64, 48)).save(small)
    photos = NewPhotos([small], tmp_path)
    assert len({photos.write().read_bytes() for _ in range(200)}) == 200
    with Image.open(photos.write(megapixels=0.1)) as large:
        assert large.size == (365, 274)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--photo", "none.jpg"], "none.jpg: there is no such photo"),
        (["-r", "0"], "--repetitions 0"),
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["-o", "none/a.json"], "none/a.json: cannot be written: there is no folder"),
        (["--plot", "none/a.png"], "none/a.png: cannot be written: there is no folder"),
        (["--against", "ollama"], "--against"),
        (["--against", "mtmd"], "mmproj"),
        (["--shape", "llava-1.5-70b"], "unknown shape 'llava-1.5-70b'"),
        (["--shape", "big:n_embd=16384,n_layer=120,n_head=128"], "memory"),
        (["--device", "cuda"], "cuda"),
        (["--bundle", "none"], "none"),
    ],
)
def test_bad_input(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *given]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in out + err


def test_benchmark_leaves_the_users_cache_alone(tmp_path: Path) -> None:
    options = Options(cache="2GB", cache_folder=tmp_path)
    with BenchmarkRun(open_bundle("pocket"), options, [], BenchOptions(repetitions=1, seconds=1)) as benchmark:
        for name, step in benchmark.steps():
            if name in {"loading", "looking at the machine"}:
                step(lambda _share: None)
    assert not list(tmp_path.iterdir())


def row(name: str) -> Row:
    return Row(test=name, group="language", n=2, unit="t")


def test_rounds_repeat_often_enough_and_no_longer() -> None:
    calls: list[str] = []

    def sample(name: str, ns: int) -> Sample:
        calls.append(name)
        return Sample(ns, {"half_s": ns / 2e9})

    tests = [
        Measurement(row("short"), lambda: sample("short", 10_000_000)),
        Measurement(row("long"), lambda: sample("long", 400_000_000)),
    ]
    run_rounds(tests, repetitions=3, seconds=1000, show=lambda _share: None)
    short, long = (test.row for test in tests)
    assert len(long.samples_ns) == 3  # 0.4 s each: three are enough
    assert len(short.samples_ns) == 50  # 10 ms each: half a second of them
    assert calls[:6] == ["short", "long"] * 3
    assert long.n_warm_up == 1
    assert long.parts_s == {"half_s": 0.2}
    assert long.avg_ts == pytest.approx(5)


def test_rounds_end_in_time_with_one_repetition_of_each_at_least() -> None:
    def slow() -> Sample:
        time.sleep(0.2)
        return Sample(200_000_000)

    tests = [Measurement(row(str(i)), slow) for i in range(3)]
    begun = time.monotonic()
    run_rounds(tests, repetitions=100, seconds=0.5, show=lambda _share: None)
    assert time.monotonic() - begun < 2
    assert [len(test.row.samples_ns) >= 1 for test in tests] == [True] * 3
    assert tests[0].row.n_warm_up == 0  # what is slow counts from its first run


def test_percentile_is_interpolated() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2.5
    assert percentile([7], 0.95) == 7
    assert percentile(range(101), 0.95) == 95


def test_new_photos_are_new_and_of_the_size(tmp_path: Path) -> None:
    photos = NewPhotos(SAMPLE_PHOTOS, tmp_path)
    made = [photos.write() for _ in range(4)]
    assert len({path.read_bytes() for path in made}) == 4
    assert read_image(made[0]).size == read_image(SAMPLE_PHOTOS[0]).size
    width, height = read_image(photos.write(megapixels=2.0)).size
    assert width * height == pytest.approx(2e6, rel=0.01)


def test_a_damaged_result_is_refused(written: Path, tmp_path: Path) -> None:
    good = json.loads(written.read_text(encoding="utf-8"))
    path = tmp_path / "bad.json"
    timed = next(i for i, row in enumerate(good["rows"]) if row["samples_ns"])

    def refuses(text: str, said: str) -> None:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=said):
            load_result(path)

    refuses("{", "no result of 'aesedge bench'")
    refuses("[]", "no result of 'aesedge bench'")
    refuses(json.dumps({**good, "format": 99}), "a result of format 99")
    refuses(json.dumps({**good, "rows": None}), "not a whole result")
    good["rows"][timed]["samples_ns"] = [0]
    refuses(json.dumps(good), "less than a nanosecond")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts the threads that Linux shows")
def test_raw_calls_compute_on_the_engine_s_threads(tmp_path: Path) -> None:
    """More of OpenMP's threads than cores would sleep at every barrier, in the engine too."""

    def n_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    with (
        load_model("pocket", cache="0", photos=2, threads=2) as model,
        Fixture(model, SAMPLE_PHOTOS, NewPhotos(SAMPLE_PHOTOS, tmp_path)) as fixture,
    ):
        before = n_threads()
        with open_raw_timer(fixture) as timer:
            timer.prefill(64)
            timer.decode(4)
            assert n_threads() == before
