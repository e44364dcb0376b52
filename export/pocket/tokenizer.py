"""Train and use pocket's own tokenizer: sentencepiece BPE, small, byte fallback, as Llama's tokenizers are.

It knows text and pieces; it does not know images or models.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import sentencepiece

from .judgement import draw_judgement
from .language import LABELS, score_question
from .phrases import ATTRIBUTES
from .talk import conversation, drill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N_PIECES = 2000
BOS, EOS = 1, 2
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. USER: "
)
"""LLaVA's llava_v1 template up to the image; the image and then "\\n{question} ASSISTANT:" follow."""


def first_chunk(question: str) -> str:
    """Return the text behind the image in the first turn."""
    return f"\n{question} ASSISTANT:"


def next_chunk(question: str) -> str:
    """Return the text of a later turn; the token EOS goes before it."""
    return f"USER: {question} ASSISTANT:"


def corpus(n_conversations: int, seed: int) -> Iterator[str]:
    """Yield lines of the text that pocket reads and writes."""
    rng = np.random.default_rng((seed, 7))
    printable = "".join(chr(c) for c in range(32, 127))
    scored = ("", *ATTRIBUTES)
    for _ in range(20):
        yield printable
    for _ in range(n_conversations // 50):
        yield SYSTEM
    for i in range(n_conversations):
        judgement = draw_judgement(rng)
        for question, answer in [*conversation(judgement, rng), *drill(judgement, rng)[:2]]:
            yield from f"{first_chunk(question)} {answer}".split("\n")
        if i % 4 == 0:
            label = int(rng.integers(3))
            answer = LABELS[label] if i % 8 else f"{'ABC'[label]}) {LABELS[label]}"
            yield from f"{first_chunk(score_question(scored[i // 4 % len(scored)]))} {answer}".split("\n")


def train_tokenizer(path: Path, *, n_conversations: int = 8000, seed: int = 0) -> sentencepiece.SentencePieceProcessor:
    """Write tokenizer.model (unless it is there) and return the tokenizer."""
    if not path.exists():
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=corpus(n_conversations, seed), model_writer=model, model_type="bpe", vocab_size=N_PIECES,
            byte_fallback=True, normalization_rule_name="identity", add_dummy_prefix=True, split_digits=True,
            remove_extra_whitespaces=False, character_coverage=1.0, unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1,
            allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, input_sentence_size=60000,
        )  # fmt: skip
        path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_file=str(path))
