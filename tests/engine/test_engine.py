"""One image prefill for everything: ratings, texts and conversations that share it answer as if alone."""

from __future__ import annotations

import gc
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import drawn_photo, open_tiny
from generation import Generation

from aesedge.engine.generation import how_many_fit
from aesedge.engine.generation_options import GenerationOptions
from aesedge.errors import ContextFullError, ImageError, ProviderError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from aesedge.engine.model import Model
    from aesedge.engine.results import Rating

# Measured on the tiny model: at most 1.6e-6 in probability. Each question's rows see the same keys and values in the
# same order, alone or in one batch; what may differ is the order of sums in a matrix product.
SHARED_KV_TOLERANCE = 1e-4


def close(one: Rating, other: Rating) -> bool:
    return all(
        math.isclose(one.probabilities[k], other.probabilities[k], abs_tol=SHARED_KV_TOLERANCE)
        for k in one.probabilities
    )


def test_shared_image_gives_the_ratings_of_separate_runs(bundle_folder: Path, photo_path: Path) -> None:
    with open_tiny(bundle_folder) as model, model.look(photo_path) as photo:
        score, attributes = photo.score_and_attributes()
        questions = {"": model.manifest.rating.question, **model.manifest.rating.attributes}
    for name, question in questions.items():
        with open_tiny(bundle_folder) as fresh, fresh.look(photo_path) as photo:
            alone = photo.rate([question])[0]
        assert close(alone, attributes[name] if name else score)


def test_questions_that_do_not_fit_at_once_are_asked_in_turns(bundle_folder: Path, photo_path: Path) -> None:
    with open_tiny(bundle_folder) as roomy, roomy.look(photo_path) as photo:
        _, expected = photo.score_and_attributes()
    with open_tiny(bundle_folder, ctx=400) as narrow, narrow.look(photo_path) as photo:
        assert (
            how_many_fit(narrow.internals.sequences, photo.internals.image, narrow.internals.labels, [[0] * 120] * 5)
            < 5
        )
        _, found = photo.score_and_attributes()
    assert all(close(found[name], expected[name]) for name in expected)


def test_rating_equals_what_a_full_decode_of_each_answer_says(model: Model, photo_path: Path) -> None:
    """The multi-token label is read exactly: p(Medium) is p(Med) p(ium | Med), whatever else begins with Med."""
    question = model.manifest.rating.question
    with model.look(photo_path) as photo:
        rating = photo.rate([question])[0]
        context = model.internals.sequences.context
        p: dict[str, float] = {}
        for label, answers in model.internals.labels.answers.items():
            for answer in answers:
                (seq_id,) = model.internals.sequences.allocate(1)
                context.fork(photo.internals.image.seq_id, seq_id)
                prompt = model.internals.llm.tokenize(model.internals.template.after_image(question))
                logits = context.prefill_tokens(seq_id, prompt)
                chance = 1.0
                for token in answer:
                    e = np.exp(logits.astype(np.float64) - logits.max())
                    chance *= float(e[token] / e.sum())
                    logits = context.prefill_tokens(seq_id, [token])
                model.internals.sequences.release([seq_id])
                p[label] = p.get(label, 0.0) + chance
    total = sum(p.values())
    for label, chance in p.items():
        assert rating.probabilities[label] == pytest.approx(chance / total, abs=SHARED_KV_TOLERANCE)
    assert rating.off_label == pytest.approx(1 - total, abs=SHARED_KV_TOLERANCE)


def test_other_photos_other_scores_and_the_same_again(model: Model) -> None:
    scores = []
    for seed in (1, 2, 1):
        with model.look(drawn_photo(seed)) as photo:
            scores.append(photo.score().probabilities["high"])
    assert scores[0] == scores[2] != scores[1]


def test_photos_kept_open_do_not_answer_for_each_other(bundle_folder: Path) -> None:
    images = [drawn_photo(seed) for seed in range(4)]
    with open_tiny(bundle_folder) as model:
        alone = []
        for image in images:
            with model.look(image) as photo:
                alone.append((photo.score().probabilities, photo.ask("what?", max_tokens=8).text))
    with open_tiny(bundle_folder) as model:  # room for one image and its questions: the others come and go
        photos = [model.look(image) for image in images]
        for _ in range(2):
            for photo, (rating, text) in zip(photos, alone, strict=True):
                assert photo.score().probabilities == pytest.approx(rating, abs=SHARED_KV_TOLERANCE)
                assert photo.ask("what?", max_tokens=8).text == text


def test_every_sequence_and_cell_is_given_back(model: Model, photo_path: Path) -> None:
    context, sequences = model.internals.sequences.context, model.internals.sequences
    before = (context.n_free, sequences.n_sequences_free)
    with model.look(photo_path) as photo:
        photo.score_and_attributes()
        photo.critique(max_tokens=4)
        abandoned = photo.stream("what?")
        next(abandoned)
        del abandoned
        gc.collect()
        with photo.conversation() as conversation:
            conversation.ask("a", max_tokens=4)
        with pytest.raises(ContextFullError):
            photo.ask("x " * 5000)
    assert (context.n_free, sequences.n_sequences_free) == before


def test_conversation_costs_only_its_own_words(model: Model, photo_path: Path) -> None:
    with model.look(photo_path) as photo, photo.conversation() as conversation:
        conversation.ask("what?", max_tokens=6)
        second = conversation.ask("why?", max_tokens=6)
        n_new = second.timings.n_prompt - second.timings.n_reused
        asked = model.internals.llm.tokenize(model.internals.template.later_turn("why?"))
        assert n_new == len(asked) + 2  # the end-of-sequence token, and the last token of the first answer


def test_conversation_equals_its_whole_text_in_one_prompt(model: Model, photo_path: Path) -> None:
    llm, template = model.internals.llm, model.internals.template
    writing = GenerationOptions(max_tokens=6)
    with model.look(photo_path) as photo:
        with photo.conversation() as conversation:
            first = conversation.ask("what?", writing)
            second = conversation.ask("why?", writing).text
        whole = [
            *llm.tokenize(template.after_image("what?")),
            *first.tokens,
            llm.eos,
            *llm.tokenize(template.later_turn("why?")),
        ]
        context, image = model.internals.sequences.context, photo.internals.image
        (seq_id,) = model.internals.sequences.allocate(1)
        context.fork(image.seq_id, seq_id)
        generation = Generation(context, seq_id, whole, sampling=writing, max_tokens=6)
        assert "".join(generation) == second


def test_conversation_that_is_too_long_stays_as_it_was(model: Model, photo_path: Path) -> None:
    writing = GenerationOptions(max_tokens=4)
    with model.look(photo_path) as photo, photo.conversation() as conversation:
        conversation.ask("what?", writing)
        with pytest.raises(ContextFullError):
            conversation.ask("x " * 5000, writing)
        after = conversation.ask("why?", writing).text
    with model.look(photo_path) as photo, photo.conversation() as conversation:
        conversation.ask("what?", writing)
        assert conversation.ask("why?", writing).text == after


def test_result_adds_up(model: Model, photo_path: Path) -> None:
    with model.look(photo_path) as photo:
        score, attributes = photo.score_and_attributes()
        critique = photo.critique(max_tokens=5)
        result = photo.result(score, attributes, critique=critique)
    t = result.timings
    assert t.n_generated == 5
    assert 0 < t.n_reused < t.n_prompt
    assert t.ttft_s is not None
    assert t.decode_image_s + t.vision_s + t.prefill_s <= t.ttft_s <= t.total_s
    assert result.finish_reason == "length"
    assert sum(result.probabilities.values()) == pytest.approx(1)
    assert 0 <= result.score <= 10
    assert result.score == pytest.approx(10 * (result.probabilities["high"] + 0.5 * result.probabilities["medium"]))


@pytest.mark.parametrize("ctx", [1, 100, 291])
def test_ctx_that_is_too_small_says_what_would_do(bundle_folder: Path, photo_path: Path, ctx: int) -> None:
    with pytest.raises(ContextFullError, match=r"the image 16.*at least --ctx 292") as caught:
        open_tiny(bundle_folder, ctx=ctx)
    needed = int(str(caught.value).split("--ctx ")[-1].split()[0])
    with open_tiny(bundle_folder, ctx=needed) as model, model.look(photo_path) as photo:
        photo.score_and_attributes()
        photo.critique(max_tokens=1)


def test_score_many_goes_on_after_a_photo_that_fails(model: Model, photo_path: Path, tmp_path: Path) -> None:
    sources = [photo_path, tmp_path / "none.jpg", photo_path]
    outcomes: list[Any] = [o.error or o.value for o in model.score_many(sources)]
    assert isinstance(outcomes[1], ImageError)
    assert outcomes[0].probabilities == outcomes[2].probabilities


def test_a_device_that_is_not_there_is_an_error(bundle_folder: Path) -> None:
    import onnxruntime

    for device, provider in (("cuda", "CUDAExecutionProvider"), ("metal", "CoreMLExecutionProvider")):
        if provider not in onnxruntime.get_available_providers():
            with pytest.raises(ProviderError, match=device):
                open_tiny(bundle_folder, device=device)


def test_a_closed_model_says_so(bundle_folder: Path, photo_path: Path) -> None:
    model = open_tiny(bundle_folder)
    photo = model.look(photo_path)
    stream, conversation = photo.stream("what?", max_tokens=800), photo.conversation()
    model.close()
    model.close()
    for call in (
        photo.score,
        stream.read,
        lambda: photo.ask("why?"),
        lambda: conversation.ask("why?"),
        lambda: model.look(photo_path),
    ):
        with pytest.raises(UsageError, match="closed"):
            call()
    conversation.close()
    photo.close()
