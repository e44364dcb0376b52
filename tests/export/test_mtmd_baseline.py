"""llama.cpp by itself does the same steps in turns with a bundle, and refuses before anything dies."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from aesedge_export.llama_cpp_pair import baseline, baseline_memory
from aesedge_export.llama_cpp_pair.baseline import MtmdBaseline
from aesedge_export.llama_cpp_pair.baseline_memory import configurations_that_fit, find_mmproj
from aesedge_export.llama_cpp_pair.baseline_runs import Pair, run_pairs
from aesedge_export.llama_cpp_pair.mtmd_process import MtmdProcess, mtmd_version
from conftest import open_tiny

from aesedge.bench.fixture import Fixture, NewPhotos
from aesedge.bench.result import Against
from aesedge.bundle.bundle import POCKET, open_bundle
from aesedge.errors import InferenceError, MemoryFitError, UsageError
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aesedge.engine.model import Model

SHAPE = "tiny:n_embd=256,n_ff=512,n_head=4,n_layer=2,n_vocab=1024,n_ctx=1024,tower.image_size=48,tower.patch_size=8"
SHAPE += ",tower.hidden=64,tower.n_heads=2,tower.n_layers=2,tower.intermediate=96"
N_IMAGE = 36


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in both forms: a graph for us, an mmproj file for llama.cpp."""
    shape = pytest.importorskip("aesedge_export.random_weights", reason="the extra convert makes bundles")
    folder = tmp_path_factory.mktemp("against") / "tiny"
    shape.write_shape(SHAPE, folder, mmproj=True)
    return folder


@pytest.fixture
def model(folder: Path) -> Iterator[Model]:
    with open_tiny(folder, cache="0", photos=2) as opened:
        yield opened


@pytest.fixture
def fixture(model: Model, tmp_path: Path) -> Iterator[Fixture]:
    with Fixture(model, SAMPLE_PHOTOS, NewPhotos(SAMPLE_PHOTOS, tmp_path)) as opened:
        yield opened


class Clock:
    """Steps that say that they took so long, and remember who went when."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pair(self, *tests: str) -> Pair:
        def side(name: str, ns: int) -> dict[str, int]:
            self.calls.append(f"{name} {tests[0]}")
            return dict.fromkeys(tests, ns)

        return Pair({test: f"what {test} is" for test in tests}, lambda: side("ours", 10), lambda: side("theirs", 25))


def test_sides_take_turns_and_neither_always_goes_first() -> None:
    clock = Clock()
    found = run_pairs([clock.pair("a"), clock.pair("b", "c")], seconds=60, repetitions=2)
    assert clock.calls == [
        *("ours a", "theirs a", "theirs b", "ours b"),
        *("theirs a", "ours a", "ours b", "theirs b"),
    ]
    assert [(row.test, row.what, row.ours_ns, row.ratio) for row in found] == [
        (test, f"what {test} is", [10, 10], 2.5) for test in "abc"
    ]


def test_every_pair_is_run_once_whatever_time_there_is() -> None:
    clock = Clock()
    found = run_pairs([clock.pair("a"), clock.pair("b")], seconds=0, repetitions=5)
    assert [len(row.ours_ns) for row in found] == [1, 1]


def test_interrupted_keeps_what_there_is_and_can_go_on() -> None:
    clock, rows = Clock(), dict[str, Against]()
    pairs = [clock.pair("a"), clock.pair("b")]
    n_asked = itertools.count()

    def interrupted() -> dict[str, int]:
        if next(n_asked) == 1:
            raise KeyboardInterrupt
        return {"c": 1}

    third = Pair({"c": ""}, interrupted, lambda: {"c": 2})
    with pytest.raises(KeyboardInterrupt):
        run_pairs([*pairs, third], seconds=60, repetitions=3, rows=rows)
    assert {test: len(row.ours_ns) for test, row in rows.items()} == {"a": 2, "b": 2, "c": 1}
    found = run_pairs([*pairs, third], seconds=60, repetitions=3, rows=rows)
    assert [len(row.ours_ns) for row in found] == [3, 3, 3]


def test_progress_ends_with_everything_done() -> None:
    shares: list[float] = []
    run_pairs([Clock().pair("a")], seconds=60, repetitions=4, progress=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


def test_a_bundle_in_both_forms_is_compared(fixture: Fixture) -> None:
    with MtmdBaseline(fixture, n_gen=4, n_depth=128) as opened:
        found = run_pairs(opened.pairs, seconds=60, repetitions=2)
    assert opened.reference == mtmd_version() != ""
    assert not opened.left_out
    tests = [row.test for row in found]
    assert tests == [
        *("photo to score", "decode image", "vision", f"pp{N_IMAGE}", "tg4 @ d128"),
        *(f"pp{N_IMAGE}, their defaults", "tg4 @ d128, their defaults"),
    ]
    for row in found:
        assert len(row.ours_ns) == len(row.theirs_ns) == 2
        assert min(*row.ours_ns, *row.theirs_ns) > 0
    by_test = {row.test: row for row in found}
    whole, parts = by_test["photo to score"], [by_test["decode image"], by_test["vision"]]
    for i in range(2):
        assert whole.ours_ns[i] > sum(part.ours_ns[i] for part in parts)
        assert whole.theirs_ns[i] > sum(part.theirs_ns[i] for part in parts)
    assert "threads: 1" in whole.what
    assert "image tokens on both sides" in whole.what


def test_fewer_image_tokens_are_compared_beside_all_of_them(folder: Path, tmp_path: Path) -> None:
    with (
        open_tiny(folder, cache="0", image_tokens=16, photos=2) as model,
        Fixture(model, SAMPLE_PHOTOS, NewPhotos(SAMPLE_PHOTOS, tmp_path)) as fixture,
        MtmdBaseline(fixture) as opened,
    ):
        (photo_pair, *_) = opened.pairs
        found = {row.test: row for row in run_pairs([photo_pair], seconds=60, repetitions=1)}
    few = found["photo to score, 16 image tokens"]
    assert few.theirs_ns == found["photo to score"].theirs_ns
    assert "16 image tokens on our side, 36 on theirs" in few.what


def test_both_sides_see_the_same_new_photos(model: Model, fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    ours: list[bytes] = []
    theirs: list[bytes] = []
    look, prompt = model.look, MtmdProcess.prompt

    def our_look(path: Path, **options: int) -> object:
        ours.append(path.read_bytes())
        return look(path, **options)

    def their_prompt(peer: MtmdProcess, path: Path, text: str) -> object:
        theirs.append(path.read_bytes())
        return prompt(peer, path, text)

    monkeypatch.setattr(model, "look", our_look)
    monkeypatch.setattr(MtmdProcess, "prompt", their_prompt)
    with MtmdBaseline(fixture) as opened:
        run_pairs(opened.pairs[:1], seconds=60, repetitions=3)
    assert ours == theirs
    assert len(set(ours)) == 3


def test_the_peer_decodes_behind_what_it_holds(folder: Path) -> None:
    llm = open_bundle(folder).path("llm", "q4_k_m")
    with MtmdProcess(None, llm, n_threads=1, n_ctx=256) as peer:
        took = peer.llama_bench(0, 4, 200)
        assert took.prompt_s == 0 < took.generate_s
        for _ in range(20):  # what was decoded is cut off: 80 tokens would not fit otherwise
            peer.llama_bench(0, 4, 250)
        assert peer.llama_bench(200, 0).generate_s == 0
        assert peer.llama_bench(8, 4).prompt_s > 0
        with pytest.raises(InferenceError, match=r"llama\.cpp failed"):
            peer.llama_bench(0, 60, 250)


def test_a_bundle_of_one_form_says_which_have_both() -> None:
    with pytest.raises(UsageError, match=r"no image encoder for llama\.cpp.*'aesedge import'.*--shape' have both"):
        find_mmproj(open_bundle(POCKET))


def test_an_mmproj_file_must_be_there_and_the_bundle_s_own(folder: Path, tmp_path: Path) -> None:
    bundle = open_bundle(folder)
    assert find_mmproj(bundle) == folder / "mmproj-f16.gguf"
    assert find_mmproj(open_bundle(POCKET), folder / "mmproj-f16.gguf").is_file()
    with pytest.raises(UsageError, match="no such mmproj"):
        find_mmproj(bundle, tmp_path / "none.gguf")
    source = msgspec.structs.replace(bundle.manifest.source, revision="mmproj sha256:" + 64 * "0")
    imported = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, source=source))
    with pytest.raises(UsageError, match="is not the mmproj file"):
        find_mmproj(imported, folder / "mmproj-f16.gguf")


def test_no_room_is_found_before_anything_is_opened(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MtmdProcess", None)  # which cannot be called
    monkeypatch.setattr(baseline_memory, "available_bytes", lambda: 10**6)
    with pytest.raises(MemoryFitError, match=r"at its own defaults, takes [\d.]+ MB .*1 MB are free"):
        MtmdBaseline(fixture)


def test_without_room_for_both_our_settings_are_left_out(
    model: Model, fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways, left_out = configurations_that_fit(model, find_mmproj(model.bundle))
    assert not left_out
    needed = [way.n_bytes for way in ways]
    monkeypatch.setattr(baseline_memory, "available_bytes", lambda: needed[0] + needed[1] // 2)
    with MtmdBaseline(fixture) as opened:
        assert len(opened.pairs) == 3
        assert "at our settings" in opened.left_out


def test_without_libmtmd_it_says_so(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "mtmd_version", lambda: "")
    with pytest.raises(UsageError, match="no libmtmd"):
        MtmdBaseline(fixture)


def test_a_damaged_mmproj_is_an_error_and_leaves_nobody(model: Model, fixture: Fixture, tmp_path: Path) -> None:
    bad = tmp_path / "mmproj.gguf"
    bad.write_bytes(b"GGUF" + bytes(64))
    free = model.internals.sequences.context.n_free
    with pytest.raises(InferenceError, match="libmtmd"):
        MtmdBaseline(fixture, mmproj=bad)
    assert model.internals.sequences.context.n_free == free
