"""Laws of the language model on a tiny real GGUF: embeddings are tokens, forks are exact."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tiny
from generation import Generation, tokens

from aesedge.errors import InferenceError, UsageError
from aesedge.llm import Context, LanguageModel, Sampling
from aesedge.llm.kv_cells import KVCells
from aesedge.llm.raw_timing import RawTimer

if TYPE_CHECKING:
    from pathlib import Path


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max())
    return e / e.sum()


def generate(context: Context, seq_id: int, prompt: list[int], sampling: Sampling, n: int = 24) -> list[int]:
    generation = Generation(context, seq_id, prompt, sampling=sampling, max_tokens=n)
    list(generation)
    context.truncate(seq_id, 0)
    return generation.tokens


def test_rows_of_the_embedding_table_equal_token_ids_exactly(context: Context, llm: LanguageModel) -> None:
    ids = tokens(llm)
    context.prefill_tokens(0, ids)
    context.prefill_embeddings(1, tiny.token_embedding_table(llm.path)[ids])
    for probe in (5, 100, 300):
        assert np.array_equal(context.prefill_tokens(0, [probe]), context.prefill_tokens(1, [probe]))


def test_logits_depend_on_embeddings(context: Context, llm: LanguageModel) -> None:
    rows = tiny.token_embedding_table(llm.path)[tokens(llm)]
    context.prefill_embeddings(0, rows)
    context.prefill_embeddings(1, rows[::-1])
    assert not np.allclose(context.prefill_tokens(0, [5]), context.prefill_tokens(1, [5]), atol=0.1)


def test_forced_tokens_get_the_logits_of_one_step_after_the_other(context: Context, llm: LanguageModel) -> None:
    ids = tokens(llm)
    at_once = context.prefill_forced(0, ids, n_last=5)
    context.prefill_tokens(1, ids[:-5])
    steps = [context.prefill_tokens(1, [token]) for token in ids[-5:]]
    assert np.abs(at_once - np.stack(steps)).max() < 1e-2  # of 10; keys and values are F16
    assert context.n_past(0) == context.n_past(1) == len(ids)


@pytest.mark.parametrize("n_last", [0, 3])
def test_forced_logits_of_no_token_and_of_too_many_are_refused(context: Context, n_last: int) -> None:
    with pytest.raises(UsageError, match="logits after"):
        context.prefill_forced(0, [5, 6], n_last=n_last)
    assert context.n_past(0) == 0


def test_weights_in_the_file_answer_as_repacked_ones(context: Context, llm: LanguageModel) -> None:
    expected = context.prefill_tokens(0, tokens(llm))
    with (
        LanguageModel(llm.path, repack=False) as plain,
        Context(plain, n_ctx=512, n_seq_max=1, n_threads=1) as other,
    ):
        assert np.abs(other.prefill_tokens(0, tokens(llm)) - expected).max() < 1e-2


def test_fork_continues_as_if_prefilled_anew(context: Context, llm: LanguageModel) -> None:
    ids = tokens(llm)
    context.prefill_tokens(0, ids)
    context.fork(0, 1)
    context.prefill_tokens(2, ids)
    assert np.array_equal(context.prefill_tokens(1, [7, 8]), context.prefill_tokens(2, [7, 8]))


def test_fork_takes_no_cells_and_parts_from_its_source(context: Context, llm: LanguageModel) -> None:
    context.prefill_tokens(0, tokens(llm))
    n_free = context.n_free
    context.fork(0, 1)
    assert context.n_free == n_free
    context.prefill_tokens(1, [9])
    assert context.n_past(0) == len(tokens(llm))
    assert context.n_past(1) == len(tokens(llm)) + 1


def test_several_parts_in_one_batch_equal_separate_ones(context: Context, llm: LanguageModel) -> None:
    parts = [[5, 6, 7], [100], [200, 201]]
    context.prefill_tokens(0, tokens(llm))
    for seq_id in range(1, 7):
        context.fork(0, seq_id)
    together = context.prefill_many([(1 + i, part) for i, part in enumerate(parts)])
    apart = np.stack([context.prefill_tokens(4 + i, part) for i, part in enumerate(parts)])
    # Measured: 3e-6 on logits that spread over 10: sums in another order, nothing else.
    assert np.abs(together - apart).max() < 1e-4


def test_a_prompt_longer_than_a_batch_equals_one_in_pieces(llm: LanguageModel) -> None:
    ids = (tokens(llm) * 20)[:400]
    with Context(llm, n_ctx=1024, n_seq_max=2, n_threads=1) as context:
        context.n_batch = 64  # what llama.cpp was given is larger, so this only makes our own pieces smaller
        in_pieces = context.prefill_tokens(0, ids)
        context.n_batch = 1024
        at_once = context.prefill_tokens(1, ids)
    # Measured: 0.0009 in probability (0.017 on logits that spread over 17). llama.cpp's flash attention adds values up
    # in f16, in another order for another number of rows; with float32 sums there is no such difference.
    assert np.abs(softmax(in_pieces) - softmax(at_once)).max() < 0.01


def test_same_seed_same_text_and_greedy_ignores_the_seed(context: Context, llm: LanguageModel) -> None:
    ids = tokens(llm)
    warm = [generate(context, 0, ids, Sampling(temperature=1.5, seed=s, top_k=0, top_p=1, min_p=0)) for s in (1, 1, 2)]
    assert warm[0] == warm[1] != warm[2]
    greedy = [generate(context, 0, ids, Sampling(seed=s)) for s in (1, 2)]
    assert greedy[0] == greedy[1]


def test_interleaved_answers_are_those_of_separate_ones(context: Context, llm: LanguageModel) -> None:
    prompts = [tokens(llm), tokens(llm, "another text")]
    alone = [generate(context, 0, p, Sampling(), 12) for p in prompts]
    both = [Generation(context, i, p, sampling=Sampling(), max_tokens=12) for i, p in enumerate(prompts)]
    for _ in zip(*(g.steps() for g in both), strict=False):
        pass
    assert [g.tokens[:11] for g in both] == [a[:11] for a in alone]


def test_max_tokens_is_respected_and_reported(context: Context, llm: LanguageModel) -> None:
    generation = Generation(context, 0, tokens(llm), sampling=Sampling(), max_tokens=3)
    list(generation)
    assert len(generation.tokens) == 3
    assert generation.finish_reason == "length"


def test_answer_ends_where_the_context_does(llm: LanguageModel) -> None:
    with Context(llm, n_ctx=256, n_seq_max=1, n_threads=1) as context:
        generation = Generation(context, 0, [5] * 250, sampling=Sampling(), max_tokens=1000)
        list(generation)
        assert generation.finish_reason == "length"
        assert context.n_free == 0


def test_stop_string_ends_the_answer(context: Context, llm: LanguageModel) -> None:
    ids = tokens(llm)
    whole = "".join(Generation(context, 0, ids, sampling=Sampling(), max_tokens=24))
    stop = whole[4:7]
    generation = Generation(context, 1, ids, sampling=Sampling(), max_tokens=24, stop=[stop])
    assert "".join(generation) == whole[: whole.index(stop)]
    assert generation.finish_reason == "stop"


def test_forks_share_cells_whole(llm: LanguageModel) -> None:
    """Without a unified cache llama.cpp aborts where part of a sequence is copied; here none is, and it is unified."""
    with Context(llm, n_ctx=256, n_seq_max=64, n_threads=1) as context:
        context.prefill_tokens(0, [5] * 200)
        for target in range(1, 64):
            context.fork(0, target)
        assert context.n_free == context.n_ctx - 200
        context.fork(0, 0)  # a sequence onto itself: emptied first, as any target
        assert context.n_past(0) == 0
        assert context.n_past(63) == 200


def test_quantized_kv_answers_nearly_the_same(llm: LanguageModel, context: Context) -> None:
    with Context(llm, n_ctx=512, n_seq_max=2, n_threads=1, kv_type="q8_0") as small:
        exact, near = context.prefill_tokens(0, tokens(llm)), small.prefill_tokens(0, tokens(llm))
    assert not np.array_equal(exact, near)
    assert np.corrcoef(exact, near)[0, 1] > 0.99


def test_tokens_and_pieces(llm: LanguageModel) -> None:
    text = "USER: High é 漢</s>"
    ids = llm.tokenize(text)
    assert b"".join(llm.piece(t) for t in ids).decode() == " " + text
    assert llm.eos not in ids
    assert llm.tokenize("a</s>", parse_special=True)[-1] == llm.eos
    assert llm.tokenize("") == []
    assert llm.piece(llm.eos) == b""


def test_kv_cells_count_shared_cells_once() -> None:
    cells = KVCells(10)
    cells.append(0, 4)
    cells.share(0, 1)
    cells.append(1, 3)
    assert (cells.n_free, cells.n_positions(1)) == (3, 7)
    cells.truncate(0, 0)
    assert cells.n_free == 3
    cells.truncate(1, 2)
    assert cells.n_free == 8
    with pytest.raises(ValueError, match="free"):
        cells.append(2, 9)


def test_closing_twice_is_harmless(gguf_path: Path) -> None:
    llm = LanguageModel(gguf_path)
    context = Context(llm, n_ctx=256, n_seq_max=1, n_threads=1)
    context.close()
    context.close()
    llm.close()
    llm.close()


def test_raw_calls_time_what_they_say_and_leave_a_clean_sequence(llm: LanguageModel) -> None:
    with Context(llm, n_ctx=512, n_seq_max=1, n_threads=1) as source:
        source.prefill_tokens(0, [llm.bos, *range(5, 14)])
        state = source.save(0)
    context = Context(llm, n_ctx=512, n_seq_max=1, n_threads=1)
    with ThreadPoolExecutor(1) as pool, RawTimer(context, n_ubatch=64, submit=pool.submit) as timer:
        timer.fill(100, state, 10)
        for _ in range(5):  # each begins anew: 5 times as much would not fit
            assert timer.prefill(150) > 0
            assert timer.prefill_embeddings(np.zeros((150, llm.n_embd), np.float32)) > 0
            assert timer.decode_on(20) > 0
            assert timer.decode(100) > 0
            assert timer.decode_at_depth(100) > 0
        with pytest.raises(InferenceError, match=r"llama\.cpp failed while it was timed"):
            timer.decode(600)
        assert timer.decode_at_depth(4) > 0
    assert not context.is_open


def test_a_model_may_be_closed_while_others_use_its_vocabulary(gguf_path: Path) -> None:
    """llama.cpp would end the process."""

    def use(model: LanguageModel) -> None:
        while True:
            model.tokenize("How is the aesthetic quality of this image? " * 9)
            model.piece(5)
            model.is_end(5)

    for _ in range(4):
        model = LanguageModel(gguf_path, vocab_only=True)
        with ThreadPoolExecutor(3) as pool:
            users = [pool.submit(use, model) for _ in range(3)]
            model.close()
        for user in users:
            with pytest.raises(UsageError, match="this model was closed"):
                user.result()
