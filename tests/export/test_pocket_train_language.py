"""Laws of the rows that the language model is taught with: what counts, and how much."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra [export]")
pytest.importorskip("sentencepiece", reason="needs the extra [export]")

import torch
from aesedge_export.pocket.judgement import as_tensors, draw_judgement
from aesedge_export.pocket.optimizers import orthogonalized
from aesedge_export.pocket.tokenizer import EOS, train_tokenizer
from aesedge_export.pocket.train_language import (
    IGNORED,
    N_CHOICES,
    OPTION_LINE,
    RISES_FOR,
    SHORT_WEIGHT,
    Branch,
    LanguageModel,
    Texts,
    block_mask,
    collate,
    draw,
    loss_of,
    optimizer_of,
    share_of_rate,
)

pytestmark = pytest.mark.export
N_IMAGE = 16
JUDGED = draw_judgement(np.random.default_rng(0))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    return Texts(train_tokenizer(tmp_path_factory.mktemp("pieces") / "tokenizer.model", n_conversations=3000))


def test_the_first_token_of_a_short_answer_counts_more(texts: Texts) -> None:
    talk = texts.branches(JUDGED, np.random.default_rng(0))
    batch = collate([talk], texts.prefix, N_IMAGE, as_tensors([JUDGED]))
    heavy = batch.targets[0][batch.weights[0] == SHORT_WEIGHT].tolist()
    first = [next(t for t in b.targets if t != IGNORED) for b in talk if SHORT_WEIGHT in b.weights]
    assert heavy == first
    assert len(heavy) == 5  # three yes/no, a letter, a short answer
    assert set(batch.weights[0].tolist()) == {1.0, SHORT_WEIGHT}


def test_answers_are_learnt_and_questions_are_not(texts: Texts) -> None:
    branch = texts.say(Branch(), "Is this photo tilted?", "No.")
    reply = [*texts.tokenizer.encode("No."), EOS]
    assert branch.targets[-len(reply) :] == reply
    assert set(branch.targets[: -len(reply)]) == {IGNORED}
    assert len(branch.ids) == len(branch.targets) == len(branch.weights)


def test_branches_see_the_prefix_and_themselves(texts: Texts) -> None:
    talk = [texts.say(Branch(), "Is this photo tilted?", "No."), texts.say(Branch(), "What is wrong?", "Nothing.")]
    batch = collate([talk], texts.prefix, N_IMAGE, as_tensors([JUDGED]))
    seen = block_mask(batch.segment)[0, 0]
    one, two = (torch.nonzero(batch.segment[0] == k).ravel() for k in (1, 2))
    n_shared = len(texts.prefix) + N_IMAGE
    assert seen[two[0], :n_shared].all()
    assert not seen[two][:, one].any()
    assert int(batch.positions[0, one[0]]) == int(batch.positions[0, two[0]]) == n_shared


def test_the_rate_rises_and_falls_to_nothing_at_the_end() -> None:
    shares = [share_of_rate(step, 1000) for step in range(1000)]
    assert shares.index(max(shares)) == RISES_FOR - 1
    assert 0 < shares[-1] < 0.002
    assert 0 < shares[0] < 0.02 < max(shares) <= 1


def test_each_option_is_learnt_to_be_right_or_wrong_before_the_letter_is(texts: Texts) -> None:
    question = "What is wrong? Choose one:\nA) Noise\nB) Motion blur\nC) Tilt\nAnswer with the letter only."
    branch = texts.choose(question, "B")
    told = [(i, t) for i, t in enumerate(branch.targets) if t != IGNORED]
    words = [texts.tokenizer.decode([token]) for _, token in told]
    assert words == ["No", "Yes", "No", "B", ""]
    before = [texts.tokenizer.decode(branch.ids[:i]).rstrip().rsplit("\n", 1)[-1] for i, _ in told[:3]]
    assert before == ["A) Noise", "B) Motion blur", "C) Tilt"]
    assert branch.weights[told[3][0]] == SHORT_WEIGHT


def test_no_option_is_learnt_to_be_right_where_the_answer_is_a_sentence(texts: Texts) -> None:
    question = "What mood does it have?\nA. Joy\nB. Calm\nAnswer with the letter only."
    branch = texts.choose(question, "I was not taught that.")
    learnt = [t for t in branch.targets if t != IGNORED]
    assert texts.tokenizer.decode(learnt) == "I was not taught that."


def test_letters_come_later(texts: Texts) -> None:
    few, many = (
        sum(OPTION_LINE.search(texts.tokenizer.decode(b.ids)) is not None and SHORT_WEIGHT in b.weights
            for b in texts.branches(JUDGED, np.random.default_rng(0), letters=letters))
        for letters in (False, True)
    )  # fmt: skip
    assert (few, many) == (1, N_CHOICES)


def test_draw_lays_talk_of_similar_length_together(texts: Texts) -> None:
    batches = draw(texts, np.random.default_rng(0), rows=8, n_image=N_IMAGE)
    assert [len(batch.ids) for batch in batches] == [4, 4]
    assert batches[0].ids.shape[1] <= batches[1].ids.shape[1]


def test_steps_are_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((2, 8, 32), (2, 32, 8)):
        values = torch.linalg.svdvals(orthogonalized(torch.randn(shape)))
        assert bool(((values > 0.6) & (values < 1.3)).all())


def test_a_few_steps_lower_the_loss(texts: Texts) -> None:
    model = LanguageModel()
    optimizer = optimizer_of(model, 3e-3)
    losses = []
    for step in range(6):
        (batch,) = draw(texts, np.random.default_rng(step), rows=2, n_image=N_IMAGE)
        loss = loss_of(model, batch, texts.label_tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
