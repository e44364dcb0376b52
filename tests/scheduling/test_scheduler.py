"""Many answers at once over one KV cache: the same answers, in fewer batches, whoever asks and whoever gives up."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from batches import Batches, free
from conftest import drawn_photo, open_tiny

import aesedge
from aesedge.engine.generation_options import GenerationOptions
from aesedge.errors import ContextFullError, UsageError
from aesedge.scheduling.requests import DecodeTokens, Job, Priority, Reserve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aesedge.engine.model import Model

QUESTIONS = ["what?", "why?", "is it sharp?", "and the light?", "anything else at all?"]
SHORT = GenerationOptions(max_tokens=12)


@pytest.fixture
def wide(bundle_folder: Path) -> Iterator[Model]:
    """A tiny model with room for several images."""
    with open_tiny(bundle_folder, ctx=4096) as model:
        yield model


def test_many_questions_share_their_batches(wide: Model, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wide.look(photo_path) as photo:
        alone = [photo.ask(question, SHORT).text for question in QUESTIONS]
        batches = Batches(wide, monkeypatch)
        answers = photo.ask_many(QUESTIONS, SHORT)
        assert [answer.text for answer in answers] == alone
    n_tokens = max(answer.n_tokens for answer in answers)
    assert n_tokens > 4
    assert max(len(of_one) for of_one in batches.sequences) == len(QUESTIONS)
    assert len(batches.sequences[0]) == len(QUESTIONS)  # from the prefill on
    assert len(batches.sizes) <= n_tokens + 1


def test_sequences_that_finish_leave_the_batch(wide: Model, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wide.look(photo_path) as photo:
        batches = Batches(wide, monkeypatch)
        for stream in [photo.stream("what?", max_tokens=n) for n in (2, 20)]:
            stream.read()
    assert [len(of_one) for of_one in batches.sequences[-15:]] == [1] * 15


def test_threads_get_the_answers_of_one_after_the_other() -> None:
    """On pocket, which is trained: in the random tiny models the likeliest tokens are level, and noise decides."""
    photos = [drawn_photo(seed) for seed in range(4)]

    def all_of(image: Any) -> tuple[float, list[str]]:
        with pocket.look(image) as photo:
            score, _ = photo.score_and_attributes()
            return score.score, [answer.text for answer in photo.ask_many(QUESTIONS[:2], SHORT)]

    found: dict[int, tuple[float, list[str]]] = {}
    with open_tiny("pocket") as pocket:
        before = free(pocket)
        expected = [all_of(image) for image in photos]
        threads = [
            threading.Thread(target=lambda i=i: found.update({i: all_of(photos[i % 4])}))  # type: ignore[misc]
            for i in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert free(pocket) == before
    for i in range(12):
        assert found[i][0] == pytest.approx(expected[i % 4][0], abs=0.01)
        assert found[i][1] == expected[i % 4][1]


def test_two_threads_that_ask_one_photo_prefill_it_once(wide: Model, photo_path: Path) -> None:
    with wide.look(photo_path) as photo:
        photo.close()  # out of the cache, and coming back with the first question
        n_calls = 0
        prefill = wide.internals.sequences.context.prefill_embeddings_many

        def counted(*args: Any) -> None:
            nonlocal n_calls
            n_calls += 1
            prefill(*args)

        wide.internals.sequences.context.prefill_embeddings_many = counted  # type: ignore[method-assign]
        photo.ask_many(QUESTIONS, SHORT)
    assert n_calls == 1


def test_answers_that_do_not_fit_together_wait_for_each_other(bundle_folder: Path, photo_path: Path) -> None:
    options = GenerationOptions(max_tokens=150)
    with open_tiny(bundle_folder, ctx=512) as model, model.look(photo_path) as photo:
        alone = [photo.ask(question, options) for question in QUESTIONS[:3]]
        together = photo.ask_many(QUESTIONS[:3], options)
        assert (
            sum(len(r.tokens) for r in alone) + model.internals.sequences.n_prefix
            > model.internals.sequences.context.n_ctx
        )
        # What was taken out and came back went through other batches, and may differ where two tokens are level.
        assert [r.tokens[:4] for r in together] == [r.tokens[:4] for r in alone]
        assert [len(r.tokens) for r in together] == [len(r.tokens) for r in alone]
        assert [r.finish_reason for r in together] == [r.finish_reason for r in alone]


def test_somebody_who_waits_goes_before_the_batch(wide: Model) -> None:
    order: list[str] = []
    with (
        wide.look(drawn_photo(1), priority=Priority.BATCH) as slow,
        wide.look(drawn_photo(2)) as urgent,
    ):
        long = slow.stream("what?", max_tokens=300)
        images = [wide.look(drawn_photo(seed), priority=Priority.BATCH) for seed in range(3, 6)]
        threads = [threading.Thread(target=lambda p=p: (p.score(), order.append("batch"))) for p in images]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        urgent.ask("why?", max_tokens=3)
        order.append("urgent")
        assert long.finish_reason is None
        for thread in threads:
            thread.join()
        long.close()
        for photo in images:
            photo.close()
    assert "urgent" in order


def test_what_is_cancelled_stops_and_the_rest_goes_on(wide: Model, photo_path: Path) -> None:
    with wide.look(photo_path) as photo:
        alone = photo.ask("why?", SHORT).text
        before = free(wide)
        unwanted = photo.stream("what?", max_tokens=800)
        wanted = photo.stream("why?", SHORT)
        begin = next(unwanted)
        unwanted.close()
        unwanted.close()
        assert unwanted.finish_reason == "cancelled"
        assert unwanted.n_tokens < 800
        assert wanted.read().text == alone
        assert begin + "".join(unwanted) == unwanted.text == unwanted.read().text
        assert unwanted.read().finish_reason == "cancelled"
        with photo.stream("what?", max_tokens=800) as left:
            next(left)
        assert left.finish_reason == "cancelled"
        dropped = photo.stream("what?", max_tokens=800)
        next(dropped)
        del dropped
        gc.collect()
        assert photo.ask("why?", SHORT).text == alone
        assert free(wide) == before


def test_asyncio(wide: Model, photo_path: Path) -> None:
    async def talk() -> tuple[list[str], str]:
        photo = await asyncio.to_thread(wide.look, photo_path)
        answers = await asyncio.gather(*(asyncio.to_thread(photo.ask, question, SHORT) for question in QUESTIONS))
        stream = await asyncio.to_thread(photo.stream, QUESTIONS[0], SHORT)
        streamed = ""
        while piece := await asyncio.to_thread(next, stream, None):
            streamed += piece
        await asyncio.to_thread(photo.close)
        return [answer.text for answer in answers], streamed

    with wide.look(photo_path) as photo:
        alone = [photo.ask(question, SHORT).text for question in QUESTIONS]
    before = free(wide)
    assert asyncio.run(talk()) == (alone, alone[0])
    assert free(wide) == before


def test_work_that_can_never_fit_is_told_so(wide: Model) -> None:
    def greedy() -> Job[None]:
        yield Reserve(1, 10**6)

    def many() -> Job[None]:
        yield Reserve(1000, 1)

    for work in (greedy, many):
        with pytest.raises(ContextFullError, match="do not fit"):
            wide.internals.scheduler.submit(work()).wait()


def test_work_that_fails_takes_nobody_with_it(wide: Model, photo_path: Path) -> None:
    def wrong() -> Job[None]:
        (seq_id,) = yield Reserve(1, 8)
        try:
            yield DecodeTokens([(seq_id, [10**7])])  # no such token: llama.cpp would read past the end of a table
        finally:
            wide.internals.sequences.release([seq_id])

    with wide.look(photo_path) as photo:
        alone = photo.ask("why?", SHORT).text
        stream = photo.stream("why?", SHORT)
        with pytest.raises(aesedge.AesedgeError, match="vocabulary"):
            wide.internals.scheduler.submit(wrong()).wait()
        assert stream.read().text == alone


def test_closing_while_busy_tells_everybody(bundle_folder: Path, photo_path: Path) -> None:
    model = open_tiny(bundle_folder)
    photo = model.look(photo_path)
    streams = [photo.stream(question, max_tokens=500) for question in QUESTIONS]
    time.sleep(0.05)
    model.close()
    for stream in streams:
        with pytest.raises(UsageError, match="closed"):
            stream.read()
        assert stream.finish_reason == "cancelled"


LEAVE = """
import sys, aesedge
model = aesedge.load_model(sys.argv[1], threads=1)
photo = model.look(sys.argv[2])
streams = [photo.stream("what?", max_tokens=500) for _ in range(5)]
next(streams[0])
"""


def test_a_program_that_just_ends_ends_well(bundle_folder: Path, photo_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVE, bundle_folder, photo_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_deadline_ends_text_at_a_sentence_and_never_the_score(photo_path: Path) -> None:
    with open_tiny("pocket") as pocket, pocket.look(photo_path) as photo:
        whole = photo.critique(deadline=1000).text
        assert whole == photo.critique().text
        cut = photo.stream_critique(deadline=1000)
        first = next(cut)
        cut._completion.deadline = 0.0  # it is over now
        text = first + "".join(cut)
        assert cut.finish_reason in {"deadline", "stop"}
        assert whole.startswith(text)
        assert text.rstrip().endswith((".", "!", "?"))
        late = photo.critique(deadline=1e-9)
        assert (late.text, late.finish_reason) == ("", "deadline")
        assert 0 <= photo.score().score <= 10
    with pytest.raises(UsageError, match="deadline"):
        GenerationOptions(deadline=0)
