"""What llama.cpp could not do is refused, and a failure or Ctrl-C changes nothing."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tiny
from generation import tokens

from aesedge.errors import BundleFormatError, ContextFullError, InferenceError, ModelLoadError, UsageError
from aesedge.llm import Context, LanguageModel
from aesedge.system.interrupt import Interrupt

if TYPE_CHECKING:
    from pathlib import Path


def test_too_much_is_refused_before_llama_cpp_sees_it(context: Context, llm: LanguageModel) -> None:
    context.prefill_tokens(0, tokens(llm))
    n_past, n_free = context.n_past(0), context.n_free
    with pytest.raises(ContextFullError, match="--ctx"):
        context.prefill_tokens(0, [5] * 600)
    assert (context.n_past(0), context.n_free) == (n_past, n_free)
    context.prefill_tokens(0, [5])


def test_positions_beyond_training_are_refused(llm: LanguageModel) -> None:
    with Context(llm, n_ctx=2 * tiny.N_CTX, n_seq_max=2, n_threads=1) as context:
        context.prefill_tokens(0, [5] * tiny.N_CTX)
        with pytest.raises(ContextFullError, match="trained"):
            context.prefill_tokens(0, [5])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda c: c.prefill_tokens(99, [1]), UsageError),
        (lambda c: c.prefill_tokens(-1, [1]), UsageError),
        (lambda c: c.fork(0, 99), UsageError),
        (lambda c: c.fork(-1, 0), UsageError),
        (lambda c: c.truncate(8, 0), UsageError),
        (lambda c: c.save(8), UsageError),
        (lambda c: c.restore(8, np.zeros(64, np.uint8), 1), UsageError),
        (lambda c: c.append([(0, [1] * (c.n_batch + 1))], [True]), UsageError),
        (lambda c: c.append([(0, [1]), (99, [1])], [True, True]), UsageError),
        (lambda c: c.append([(0, [])], [True]), UsageError),
        (lambda c: c.prefill_tokens(0, []), UsageError),
        (lambda c: c.prefill_tokens(0, [10**6]), InferenceError),
        (lambda c: c.prefill_tokens(0, [-1]), InferenceError),
        (lambda c: c.prefill_embeddings(0, np.zeros((3, 5), np.float32)), InferenceError),
        (lambda c: c.prefill_embeddings(0, np.zeros((3, tiny.N_EMBD), np.float64)), InferenceError),
        (lambda c: c.prefill_embeddings(0, np.full((3, tiny.N_EMBD), np.nan, np.float32)), InferenceError),
    ],
)
def test_what_would_crash_llama_cpp_is_an_error(context: Context, call: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        call(context)  # type: ignore[operator]
    assert context.n_free == context.n_ctx


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
def test_kv_that_is_not_this_contexts_is_refused_and_nothing_is_left(llm: LanguageModel, kv_type: str) -> None:
    with (
        Context(llm, n_ctx=512, n_seq_max=4, n_threads=1) as one,
        Context(llm, n_ctx=256, n_seq_max=4, n_threads=1, kv_type="q8_0") as other,
    ):
        mine, from_ = (one, other) if kv_type == "f16" else (other, one)
        from_.prefill_tokens(0, tokens(llm))
        mine.prefill_tokens(1, tokens(llm))
        mine.prefill_tokens(2, tokens(llm)[:5])
        n, n_free, own = len(tokens(llm)), mine.n_free, mine.save(1)
        for state, n_positions in (
            (from_.save(0), n),  # of another type
            (own[:-1], n),
            (own[: len(own) // 2], n),
            (own[:3], n),
            (own[:0], n),
            (own, n - 1),  # another length than was said
            (own, n + 1),
        ):
            with pytest.raises(InferenceError, match="refuses a saved state"):
                mine.restore(0, state, n_positions)
            assert (mine.n_past(0), mine.n_free) == (0, n_free)
        with pytest.raises(ContextFullError):
            mine.restore(0, own, mine.n_free + 1)
        mine.restore(0, own, n)
        again = [mine.prefill_tokens(seq_id, [7]) for seq_id in (0, 1)]
    assert np.allclose(*again, atol=1e-4)


def test_unknown_kv_type(llm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="q8_0"):
        Context(llm, n_ctx=256, n_seq_max=1, n_threads=1, kv_type="q3")


def test_other_architecture_is_refused(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "qwen.gguf", architecture="qwen2")
    with pytest.raises((BundleFormatError, ModelLoadError), match=r"qwen\.gguf"):
        LanguageModel(path)


def test_loadable_gguf_of_another_architecture_is_refused(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "other.gguf", architecture="stablelm")
    with pytest.raises((BundleFormatError, ModelLoadError), match=r"other\.gguf"):
        LanguageModel(path)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda _: b"", lambda _: b"GGUF" + b"\xff" * 64])
def test_damaged_gguf_is_refused_with_llama_cpps_reason(tmp_path: Path, gguf_path: Path, damage: object) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(damage(gguf_path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ModelLoadError, match=r"damaged\.gguf.*llama\.cpp cannot load it: .+; export or install"):
        LanguageModel(path)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_in_a_decode_leaves_the_sequence_as_it_was(llm: LanguageModel) -> None:
    with Context(llm, n_ctx=1024, n_seq_max=1, n_threads=1) as context:
        context.prefill_tokens(0, [5])
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (the signal comes in one of the rounds)
            timer.start()
            for _ in range(1000):
                context.prefill_tokens(0, [5] * 800)
                context.truncate(0, 1)
        timer.join()
        context.truncate(0, 1)
        assert context.n_past(0) == 1
        assert np.isfinite(context.prefill_tokens(0, [6])).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_outside_the_main_thread_does_nothing() -> None:
    seen: list[bool] = []

    def work() -> None:
        with Interrupt() as interrupt:
            seen.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
