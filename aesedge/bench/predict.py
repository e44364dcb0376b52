"""Calculate seconds per photo for other numbers of image tokens, and for other types, from rates that were measured.

A new photo takes::

    score    = decode the image + preprocess + vision + (N + n_question) / prefill + n_label_steps / decode
    critique = score + n_critique / prefill + n_gen / decode

with N image tokens. In another type prefill and decode take other multiples of the measured seconds, which
``aesedge_export.random_weights.type_costs`` measures.

Left out: attention costs more behind more image tokens, a short question is prefilled less efficiently than an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.bench.result import Prediction
from aesedge.bench.timing import N_CRITIQUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aesedge.bench.result import Row
    from aesedge.engine.model import Model

    PredictTypes = Callable[[Model, "Measured", Callable[[float], None]], tuple[list[Prediction], list[str]]]
    """Times other types against that of an open model, and predicts them; returns notes on what it left out too."""

_SHARES = (1, 3 / 4, 1 / 2, 1 / 4, 1 / 9)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a photo takes, part by part."""

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
    """Tokens of the score question; the text before the image is prefilled once for all photos."""
    n_critique: int
    """Tokens of the question that a critique answers."""
    n_gen: int
    """Tokens of a critique."""
    n_label_steps: int = 1
    """Batches in which labels of several tokens are read, for the score."""

    def prediction(
        self, basis: str, *, gguf: str = "", n: int | None = None, prefill: float = 1.0, decode: float = 1.0
    ) -> Prediction:
        """Return seconds for a photo.

        Args:
            basis: what they are calculated from.
            gguf: the type; empty is the measured one.
            n: image tokens; None is the measured number.
            prefill: seconds for a row, as a multiple of the measured type's.
            decode: seconds for a token, likewise.
        """
        n = self.n_image_tokens if n is None else n
        row_s, token_s = prefill / self.prefill_per_s, decode / self.decode_per_s
        before = self.decode_image_s + self.preprocess_s + self.vision_s
        score_s = before + (n + self.n_question) * row_s + self.n_label_steps * token_s
        return Prediction(
            gguf=(gguf or self.gguf).lower(),
            vision=self.vision.lower(),
            n_image_tokens=n,
            score_s=score_s,
            critique_s=score_s + self.n_critique * row_s + self.n_gen * token_s,
            n_gen=self.n_gen,
            basis=basis,
        )


def measured_of(model: Model, rows: Sequence[Row]) -> Measured | None:
    """Collect what a photo takes from the rows; None where one of them was not measured."""
    found = {row.test: row for row in rows if row.samples_ns}
    plan, manifest = model.internals.plan, model.manifest
    behind = next((row for row in found.values() if row.test.startswith("tg") and row.n_depth), None)
    needed = ["decode image", "preprocess", f"vision {plan.vision.lower()}", f"pp{plan.n_image_tokens} img"]
    if behind is None or not set(needed) <= set(found):
        return None
    decode, prepare, vision, prefill = (found[name] for name in needed)
    return Measured(
        gguf=plan.gguf,
        vision=plan.vision,
        n_image_tokens=plan.n_image_tokens,
        decode_image_s=decode.median_s,
        preprocess_s=prepare.median_s,
        vision_s=vision.median_s,
        prefill_per_s=prefill.n / prefill.median_s,
        decode_per_s=behind.n / behind.median_s,
        n_question=len(model.internals.question_tokens(manifest.rating.question)),
        n_critique=len(model.internals.question_tokens(manifest.prompt.critique)),
        n_gen=N_CRITIQUE,
        n_label_steps=len(model.internals.labels.prefixes),
    )


def budgets_of(least: int, most: int) -> list[int]:
    """Return numbers of image tokens that are worth a prediction, the most first."""
    return sorted({n for n in (round(share * most) for share in _SHARES) if least <= n <= most}, reverse=True)


def predict_budgets(measured: Measured, budgets: Iterable[int]) -> list[Prediction]:
    """Predict other numbers of image tokens in the measured type."""
    basis = f"rates measured with {measured.n_image_tokens} image tokens"
    return [measured.prediction(basis, n=n) for n in budgets if n != measured.n_image_tokens]


def predict(
    model: Model, rows: Sequence[Row], predict_types: PredictTypes | None, show: Callable[[float], None]
) -> tuple[list[Prediction], list[str]]:
    """Predict other numbers of image tokens, and other types where there is a way to time them.

    Returns:
        The predictions, and notes on types that were left out.
    """
    measured = measured_of(model, rows)
    if measured is None:
        return [], []
    tokens = model.manifest.image_tokens
    found = predict_budgets(measured, budgets_of(tokens.min, tokens.max))
    of_types, notes = predict_types(model, measured, show) if predict_types is not None else ([], [])
    return found + of_types, notes
