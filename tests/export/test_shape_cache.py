"""Bundles of shapes are made once, in the cache folder, if disk and memory have room; so are models to predict from."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from aesedge_export import disk_space
from aesedge_export.language.gguf_output import plan_layout
from aesedge_export.language.language_gguf import language_bytes
from aesedge_export.random_weights.mmproj import MMPROJ_NAME
from aesedge_export.random_weights.probe import ProbeWriter, shape_of
from aesedge_export.random_weights.shape_bundle import bundle_of_shape
from aesedge_export.random_weights.shape_cache import cache_path, cached_bundle
from aesedge_export.random_weights.shapes import SHAPES, parse_shape
from aesedge_export.random_weights.size_estimate import bytes_per_token, language_of, memory_parts, weight_bytes
from aesedge_export.random_weights.type_costs import ProbeMaker, measure_types
from conftest import open_tiny

from aesedge.bundle.bundle import POCKET, Bundle, open_bundle
from aesedge.bundle.gguf_tensors import read_weights
from aesedge.config.memory import estimate, fit
from aesedge.config.options import Options
from aesedge.config.planning import make_plan
from aesedge.errors import BundleError, CheckpointError, MemoryFitError, UsageError
from aesedge.llm import LanguageModel
from aesedge.system.paths import shapes_folder

if TYPE_CHECKING:
    from pathlib import Path

TINY = (
    "tiny:n_embd=256,n_ff=512,n_head=4,n_head_kv=2,n_layer=4,n_vocab=1024,n_ctx=1024,tower.image_size=48,"
    "tower.patch_size=8,tower.hidden=64,tower.n_heads=2,tower.n_layers=3,tower.intermediate=96"
)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_it_is_made_in_the_cache_folder_and_taken_the_next_time(capsys: pytest.CaptureFixture[str]) -> None:
    made = bundle_of_shape(TINY, "Q4_K_M")
    assert made.folder.parent == shapes_folder()
    assert made.folder.name.startswith("tiny-q4_k_m-int8-")
    assert made.manifest.types("llm") == ["Q4_K_M"]
    assert "language model Q4_K_M: done" in capsys.readouterr().err
    before = times(made.folder)
    assert MMPROJ_NAME in before
    again = bundle_of_shape(TINY, "q4_k_m", quiet=True)
    assert (again.folder, times(again.folder)) == (made.folder, before)
    shown = capsys.readouterr()
    assert shown.err == shown.out == ""
    with open_tiny(made.folder) as model:
        assert model.n_image_tokens == 36


def test_other_types_are_other_bundles_and_the_form_for_llama_cpp_can_come_later() -> None:
    first = bundle_of_shape(TINY, "q4_k_m", "fp32", mmproj=False, quiet=True)
    assert not (first.folder / MMPROJ_NAME).exists()
    other = bundle_of_shape(TINY, "q8_0,q4_k_m", "fp32", quiet=True)
    assert other.folder != first.folder
    assert other.manifest.types("llm") == ["Q8_0", "Q4_K_M"]
    before = times(first.folder)
    assert bundle_of_shape(TINY, "q4_k_m", "fp32", quiet=True).folder == first.folder
    assert times(first.folder).items() - before.items() == {
        (MMPROJ_NAME, (first.folder / MMPROJ_NAME).stat().st_mtime_ns)
    }


def test_another_shape_or_recipe_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = parse_shape(TINY)
    first = cache_path(tmp_path, shape, ["Q4_K_M"], ["int8"])
    assert first == cache_path(tmp_path, shape, ["q4_k_m"], ["INT8"])
    others = [
        cache_path(tmp_path, dataclasses.replace(shape, n_ff=1024), ["Q4_K_M"], ["int8"]),
        cache_path(tmp_path, shape, ["Q4_K_S"], ["int8"]),
        cache_path(tmp_path, shape, ["Q4_K_M"], ["int8", "fp32"]),
    ]
    monkeypatch.setattr("aesedge_export.random_weights.builder._RECIPE", 99)
    others.append(cache_path(tmp_path, shape, ["Q4_K_M"], ["int8"]))
    assert len({first, *others}) == 5


def test_what_was_altered_is_made_again() -> None:
    made = bundle_of_shape(TINY, quiet=True)
    llm = made.folder / "llm-q4_k_m.gguf"
    whole = llm.read_bytes()
    for damage in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        llm.write_bytes(damage)
        again = bundle_of_shape(TINY, quiet=True)
        assert again.folder == made.folder
        assert llm.read_bytes() == whole


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    def stop(step: str, share: float, detail: str = "") -> None:
        if step.startswith("language model") and share > 0:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"gguf_types": ["q4_k_m"], "vision_types": ["int8"]}
    with pytest.raises(KeyboardInterrupt):
        cached_bundle(tmp_path, TINY, progress=stop, **arguments)
    assert not list(tmp_path.iterdir())
    assert cached_bundle(tmp_path, TINY, **arguments).folder.parent == tmp_path


def test_a_killed_build_leaves_nothing_that_is_taken(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from aesedge_export.random_weights.shape_cache import cached_bundle\n"
        "def die(step, share, detail=''):\n"
        "    if step.startswith('language') and share > 0: os._exit(9)\n"
        f"cached_bundle(pathlib.Path({str(tmp_path)!r}), {TINY!r}, gguf_types=['q4_k_m'], vision_types=['int8'],"
        " progress=die)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    made = cached_bundle(tmp_path, TINY, gguf_types=["q4_k_m"], vision_types=["int8"])
    assert [path.name for path in tmp_path.iterdir()] == [made.folder.name]


def test_who_is_slower_takes_what_the_faster_one_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"gguf_types": ["q4_k_m"], "vision_types": ["fp32"]}
    made: list[Bundle] = []
    is_resident = False

    def other_process() -> None:
        nonlocal is_resident
        if not is_resident:  # between "it is not there" and "it is done"
            is_resident = True
            monkeypatch.setattr(os, "getpid", lambda: 4_000_000)
            made.append(cached_bundle(tmp_path, TINY, **arguments))
            monkeypatch.undo()

    def slow(step: str, share: float, detail: str = "") -> None:
        if step == "hashes":
            other_process()

    found = cached_bundle(tmp_path, TINY, progress=slow, **arguments)
    assert found.folder == made[0].folder
    assert [path.name for path in tmp_path.iterdir()] == [found.folder.name]


def test_several_processes_may_want_the_same(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from aesedge_export.random_weights.shape_cache import cached_bundle\n"
        f"print(cached_bundle(pathlib.Path({str(tmp_path)!r}), {TINY!r}, gguf_types=['q4_k_m'], vision_types=['fp32'])"
        ".folder)"
    )

    def run(delay_s: float) -> subprocess.CompletedProcess[str]:
        time.sleep(delay_s)
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(run, (0.0, 0.2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("llava-2",), "unknown shape 'llava-2'"),
        (("mine:n_embed=3",), "unknown key 'n_embed'"),
        ((TINY, "q9"), "q9"),
        ((TINY, ","), "--gguf names nothing"),
        ((TINY, "q8_0", "int4"), "unknown vision precision 'int4'"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_is_written(call: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        bundle_of_shape(*call, quiet=True)
    assert not shapes_folder().exists()


def test_a_shape_that_does_not_fit_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def limits(_device: str, _memory: str | None) -> fit.MemoryLimits:
        return fit.MemoryLimits(process_bytes=10**8, free_bytes=7 * 10**9, ram_bytes=7 * 10**9, gpu_bytes=0)

    monkeypatch.setattr(fit, "limits_now", limits)
    with pytest.raises(
        MemoryFitError, match=r"llava-1\.5-7b in q8_0 takes about 8\.\d+ GB .*weights 7\.16 GB"
    ) as raised:
        bundle_of_shape("llava-1.5-7b", "q8_0", quiet=True)
    assert "there is room for 7 GB; --gguf q5_k_m would fit" in str(raised.value)
    with pytest.raises(MemoryFitError, match=r"--memory allows 7 GB; take a smaller shape"):
        bundle_of_shape("llava-1.5-13b", "f16", memory="7GB", quiet=True)
    assert not shapes_folder().exists()
    assert bundle_of_shape(TINY, quiet=True).name == "tiny-random"


def test_a_bundle_that_is_there_is_given_whatever_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = bundle_of_shape(TINY, quiet=True)
    monkeypatch.setattr(fit, "limits_now", lambda *_: fit.MemoryLimits(0, 0, 0, 0))
    assert bundle_of_shape(TINY, quiet=True).folder == made.folder  # opening it says what does not fit


def test_a_full_disk_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = disk_space.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(BundleError, match="no room"):
        bundle_of_shape(TINY, quiet=True)
    writer = ProbeWriter(parse_shape(TINY))
    with pytest.raises(BundleError, match="no room for a small model"):
        writer("q4_k_m", tmp_path / "probe.gguf")


def test_the_estimate_is_near_that_of_the_files() -> None:
    made = bundle_of_shape(TINY, quiet=True)
    weights = sum(weight_bytes(parse_shape(TINY), "Q4_K_M").values())
    assert weights == sum(w.n_bytes for w in read_weights(made.path("llm", "q4_k_m")))
    whole = sum(memory_parts(SHAPES["pocket"], "Q8_0", ["fp32"]).values())
    exact = estimate(open_bundle(POCKET), make_plan(Options(threads=1, device="cpu", tuned=False), open_bundle(POCKET)))
    assert whole == pytest.approx(exact.needed_bytes, abs=150e6)


def test_what_decoding_reads_is_all_but_the_table_of_tokens() -> None:
    shape = SHAPES["llava-1.5-7b"]
    n_bytes = bytes_per_token(shape, "Q8_0")
    table = 32000 * 4096 * 34 // 32
    whole = language_bytes(language_of(shape), ["Q8_0"])["Q8_0"]
    assert n_bytes == pytest.approx(whole - table, rel=1e-3)


def test_a_probe_is_as_wide_as_the_bundle_s_model(tmp_path: Path) -> None:
    made = bundle_of_shape(TINY, quiet=True)
    path = made.path("llm", "q4_k_m")
    found, asked = shape_of(path), parse_shape(TINY)
    assert dataclasses.replace(found, name=asked.name, tower=asked.tower) == asked
    write = ProbeWriter(shape_of(made.path("llm", "q4_k_m")))
    n_bytes = write("Q4_K_M", tmp_path / "probe.gguf")
    assert n_bytes == sum(w.n_bytes for w in read_weights(path) if not w.is_input)
    with LanguageModel(tmp_path / "probe.gguf") as model:
        assert (model.n_embd, model.n_vocab) == (256, 2048)
        assert model.metadata("llama.block_count") == "4"  # all that there are: they are small
    plan = dataclasses.replace(make_plan(Options(threads=1, device="cpu", tuned=False), made), n_image_tokens=36)
    with ThreadPoolExecutor(1) as pool:
        costs = measure_types(ProbeMaker(plan, write, tmp_path, pool.submit), types=["q8_0"], seconds=60)
    assert [cost.gguf for cost in costs.costs] == ["q8_0"]


@pytest.mark.parametrize(("n_layer", "n_embd", "expected"), [(32, 4096, 2), (40, 5120, 2), (12, 2048, 8), (3, 512, 3)])
def test_a_probe_has_few_layers_half_of_them_with_more_bits(
    tmp_path: Path, n_layer: int, n_embd: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    monkeypatch.setattr("aesedge_export.random_weights.probe.write_random", lambda source, *_: found.append(source))
    n_ff = n_embd * 11 // 4 // 256 * 256
    shape = parse_shape(f"wide:n_embd={n_embd},n_ff={n_ff},n_head=8,n_layer={n_layer}")
    ProbeWriter(shape)("q4_k_m", tmp_path / "probe.gguf")
    types = plan_layout(found[0], "Q4_K_M", weighted=False).types
    down = [types[f"blk.{i}.ffn_down.weight"] for i in range(expected)]
    assert f"blk.{expected}.ffn_down.weight" not in types
    assert down.count("Q6_K") in {expected // 2, (expected + 1) // 2}


def test_a_file_that_is_no_language_model_is_refused() -> None:
    made = bundle_of_shape(TINY, quiet=True)
    with pytest.raises(CheckpointError, match=r"llama\.embedding_length"):
        shape_of(made.folder / MMPROJ_NAME)


def test_without_the_extra_it_says_which_one() -> None:
    script = (
        "import sys; sys.modules['gguf'] = None\n"
        "from aesedge.cli import main; sys.exit(main(['bench', '--shape', 'pocket']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "aesedge bench --shape (gguf is not installed)" in done.stderr
    assert "pip install 'aesedge[convert]'" in done.stderr
