"""Several photos at once: in order, bounded, with errors as results; and a fair lock."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest
from conftest import drawn_photo, open_tiny

from aesedge.engine import loading as engine
from aesedge.errors import AesedgeError, ImageError, UsageError
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.fair_lock import FairLock
from aesedge.system.ordered_map import map_ordered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_photos_side_by_side_get_the_answers_of_one_after_the_other(at_once: int, tmp_path: Path) -> None:
    sources = [drawn_photo(0), *SAMPLE_PHOTOS, drawn_photo(1), tmp_path / "none.jpg", drawn_photo(0)]
    with open_tiny("pocket", ctx=4096) as pocket:
        alone: list[Any] = [*pocket.each(sources, lambda photo: photo.critique().text, at_once=1)]
        found: list[Any] = [*pocket.each(sources, lambda photo: photo.critique().text, at_once=at_once)]
        scores: list[Any] = [o.error or o.value for o in pocket.score_many(sources)]
    assert [outcome.source for outcome in found] == sources
    assert isinstance(found[4].error, ImageError)
    assert [outcome.value for outcome in found[:4]] == [outcome.value for outcome in alone[:4]]
    assert len({outcome.value for outcome in found[:4]}) > 1
    assert isinstance(scores[4], ImageError)
    # Another place in the KV cache changes the last bits of llama.cpp's sums.
    assert scores[0].score == pytest.approx(scores[5].score, abs=0.005)


def test_photos_that_do_not_fit_together_wait_for_each_other(bundle_folder: Path) -> None:
    with open_tiny(bundle_folder) as model:  # one photo's questions take half of the cells
        sources = [drawn_photo(seed) for seed in range(8)]
        found: list[Any] = [
            o.error or o.value for o in model.each(sources, lambda p: p.score_and_attributes(), at_once=3)
        ]
    assert [type(outcome) for outcome in found] == [tuple] * 8


def test_scores_depend_on_nobody_else(bundle_folder: Path) -> None:
    with open_tiny(bundle_folder) as model:
        sources = [drawn_photo(seed % 2) for seed in range(8)]
        outcomes: list[Any] = [o.error or o.value for o in model.score_many(sources)]
    scores = [(outcome.score, outcome.attributes) for outcome in outcomes]
    assert scores == scores[:2] * 4


def test_photos_with_few_image_tokens_share_batches(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_tiny(bundle_folder, ctx=8192) as model:
        sources = [drawn_photo(seed) for seed in range(5)]
        alone = []
        for source in sources:
            with model.look(source) as photo:
                alone.append(photo.score_and_attributes())
        lengths: list[int] = []
        append = model.internals.sequences.context.prefill_embeddings_many

        def counted(parts: Any) -> None:
            lengths.append(len(parts))
            append(parts)

        monkeypatch.setattr(model.internals.sequences.context, "prefill_embeddings_many", counted)
        broken = [*sources[:2], b"no photo", *sources[2:], b""]
        outcomes: list[Any] = [o.error or o.value for o in model.score_many(broken)]
        n_free = model.internals.sequences.n_sequences_free
        only: list[Any] = [o.error or o.value for o in model.score_many(sources, attributes=False)]
        assert model.internals.sequences.n_sequences_free == n_free
    assert lengths == [4, 1, 5]  # five at once: so many sequences there are
    assert [type(outcome) for outcome in outcomes if not hasattr(outcome, "score")] == [ImageError] * 2
    found = [outcome for outcome in outcomes if hasattr(outcome, "score")]
    for (score, attributes), together, alone_asked in zip(alone, found, only, strict=True):
        assert together.score == pytest.approx(score.score, abs=0.005)
        assert alone_asked.score == pytest.approx(score.score, abs=0.005)
        assert {k: v.score for k, v in together.attributes.items()} == pytest.approx(
            {k: v.score for k, v in attributes.items()}, abs=0.005
        )
        assert alone_asked.attributes == {}
        assert together.timings.n_prompt == found[0].timings.n_prompt


def test_a_device_sees_the_photos_of_a_batch_at_once(bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; here the device is the CPU."""
    sources = [drawn_photo(0), drawn_photo(1), b"no photo", drawn_photo(2), drawn_photo(0), drawn_photo(3)]
    with open_tiny(bundle_folder, ctx=8192) as model:
        expected: list[Any] = [o.error or o.value for o in model.score_many(sources)]
    with open_tiny(bundle_folder, ctx=8192) as model:
        batches: list[int] = []
        encode_batch = model.internals.tower.encode_batch

        def counted(pixels: Any, n: int | None) -> Any:
            batches.append(len(pixels))
            return encode_batch(pixels, n)

        monkeypatch.setattr(model.internals.tower, "encode_batch", counted)
        monkeypatch.setattr(type(model.internals.tower), "gains_by_batches", True)
        found: list[Any] = [o.error or o.value for o in model.score_many(sources)]
        again: list[Any] = [o.error or o.value for o in model.score_many(sources)]
    assert sorted(batches) == [1, 4]  # groups of five, one of them no photo; then all of them are known
    assert [type(outcome) for outcome in found] == [type(outcome) for outcome in expected]
    for one, other, known in zip(expected, found, again, strict=True):
        if not isinstance(one, ImageError):
            assert other.probabilities == pytest.approx(one.probabilities, abs=1e-4)
            assert known.probabilities == pytest.approx(one.probabilities, abs=1e-4)
            assert known.cache == "embeddings"


def test_no_more_is_begun_than_was_asked_for() -> None:
    begun: list[int] = []

    def endless() -> Iterator[int]:
        for i in range(10**6):
            begun.append(i)
            yield i

    results = map_ordered(endless(), lambda i: i * i, at_once=3)
    assert [next(results) for _ in range(4)] == [(i, i * i) for i in range(4)]
    assert len(begun) <= 4 + 3
    results.close()  # type: ignore[attr-defined]


def test_errors_of_photos_are_results_and_mistakes_are_not() -> None:
    def work(i: int) -> int:
        if i == 1:
            raise UsageError("one")
        if i == 3:
            raise ZeroDivisionError
        return i

    results = map_ordered(range(5), work, at_once=2)
    found = [next(results)[1] for _ in range(3)]
    assert (found[0], str(found[1]), found[2]) == (0, "one", 2)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_the_model_ends_what_runs_ahead(bundle_folder: Path) -> None:
    with open_tiny(bundle_folder, ctx=4096) as model:
        results = model.each([drawn_photo(seed) for seed in range(50)], lambda photo: photo.critique().text, at_once=3)
        next(results)
    outcomes = [o.error or o.value for o in results]
    assert any(isinstance(outcome, AesedgeError) and "closed" in str(outcome) for outcome in outcomes)


def test_turns_are_first_come_first_served() -> None:
    turns, order = FairLock(), []

    def wait(i: int) -> None:
        with turns.hold():
            order.append(i)

    with turns.hold():
        threads = []
        for i in range(6):
            threads.append(threading.Thread(target=wait, args=(i,)))
            threads[-1].start()
            while len(turns._line) < i + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


@pytest.mark.parametrize("n_cores", [1, 4])
def test_tower_and_language_model_take_turns_where_they_share_all_cores(
    n_cores: int, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "n_cores", lambda: n_cores)
    with open_tiny(bundle_folder) as model, ThreadPoolExecutor(1) as pool:
        decoding, may_go_on = threading.Event(), threading.Event()

        def decode() -> None:
            decoding.set()
            may_go_on.wait()

        with monkeypatch.context() as patch:  # a batch that takes long
            append = model.internals.sequences.context.append
            patch.setattr(model.internals.sequences.context, "append", lambda *args: decode() or append(*args))
            photo = model.look(drawn_photo(0))
            scoring = pool.submit(photo.score)
            decoding.wait()
            with ThreadPoolExecutor(1) as another:
                seeing = another.submit(model.internals.encoder.encode, drawn_photo(1))
                seen = bool(wait([seeing], timeout=0.3 if n_cores == 1 else 30).done)
                may_go_on.set()
        assert seen == (n_cores > 1)
        assert 0 <= scoring.result().score <= 10
