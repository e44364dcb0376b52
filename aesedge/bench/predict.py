"""Seconds per photo for what was not measured, other image-token budgets and other types; calculates, runs nothing.

A new photo's score takes, by rates that were measured::

    score    = decode the image + preprocess + vision + (N + n_question) / prefill + n_label_steps / decode
    critique = score + n_critique / prefill + n_gen / decode

with N image tokens. Another budget is another N. In another type prefill and decode are as many times slower as small
models of the two types are, in turns on this machine (:mod:`.type_costs`): for prefill that ratio itself, since layers
are all there is to compute; for decode, which is reading weights, each type's seconds for a byte of its small model,
times the bytes that the large one reads for a token. So the head, which the small model has next to nothing of, and
mixtures that give other layers more bits are in it by their bytes.

Not in it: attention costs more behind more image tokens, a short question is prefilled less efficiently than an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.bench.result import Prediction

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aesedge.bench.type_costs import TypeCost

_SHARES = (1, 3 / 4, 1 / 2, 1 / 4, 1 / 9)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a photo was found to be made of."""

    gguf: str
    vision: str
    n_image_tokens: int
    decode_image_s: float
    preprocess_s: float
    vision_s: float
    prefill_per_s: float
    """Rows a second, of an image."""
    decode_per_s: float
    """Tokens a second, behind an image."""
    n_question: int
    """Tokens of the score question; the text before the image is prefilled once for all photos, so it is not here."""
    n_critique: int
    """Tokens of the question that a critique answers."""
    n_gen: int
    """Tokens of a critique."""
    n_label_steps: int = 1
    """Batches in which labels of several tokens are read further, for the score."""


def budgets_of(least: int, most: int) -> list[int]:
    """Return numbers of image tokens that are worth a prediction, the most first."""
    return sorted({n for n in (round(share * most) for share in _SHARES) if least <= n <= most}, reverse=True)


def predict_budgets(measured: Measured, budgets: Iterable[int]) -> list[Prediction]:
    """Return what other numbers of image tokens would take in the measured type."""
    return [
        _prediction(measured, measured.gguf, n, 1.0, 1.0, f"rates measured with {measured.n_image_tokens} image tokens")
        for n in budgets
        if n != measured.n_image_tokens
    ]


def predict_types(measured: Measured, costs: Iterable[TypeCost]) -> list[Prediction]:
    """Return what other types would take, with the measured number of image tokens."""
    return [
        _prediction(
            measured,
            cost.gguf,
            measured.n_image_tokens,
            cost.prefill,
            cost.decode,
            f"{measured.gguf.lower()} as measured; against it prefill takes {cost.prefill:.2f} and decode "
            f"{cost.decode:.2f} times as long, by models of few layers, as wide"
            + (", weights repacked" if cost.repack else ""),
        )
        for cost in costs
    ]


def _prediction(m: Measured, gguf: str, n: int, prefill: float, decode: float, basis: str) -> Prediction:
    """Return seconds for a photo.

    Args:
        m: what was measured.
        gguf: the type.
        n: image tokens.
        prefill: seconds for a row, as a multiple of the measured type's.
        decode: seconds for a token.
        basis: what it was calculated from.
    """
    row_s, token_s = prefill / m.prefill_per_s, decode / m.decode_per_s
    before = m.decode_image_s + m.preprocess_s + m.vision_s
    score_s = before + (n + m.n_question) * row_s + m.n_label_steps * token_s
    return Prediction(
        gguf=gguf.lower(),
        vision=m.vision.lower(),
        n_image_tokens=n,
        score_s=score_s,
        critique_s=score_s + m.n_critique * row_s + m.n_gen * token_s,
        n_gen=m.n_gen,
        basis=basis,
    )
