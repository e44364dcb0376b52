"""Calculate seconds per photo for what was not measured: other numbers of image tokens, and other types.

A new photo's score takes, by rates that were measured::

    score    = decode the image + preprocess + vision + (N + n_question) / prefill + n_label_steps / decode
    critique = score + n_critique / prefill + n_gen / decode

with N image tokens. Another budget is another N. In another type prefill and decode are as many times slower as small
models of the two types are, in turns on this machine (``aesedge_export.random_weights.type_costs``): for prefill that
ratio itself, since layers are all there is to compute; for decode, which is reading weights, each type's seconds for a
byte of its small model, times the bytes that the large one reads for a token. So the head, which the small model has
next to nothing of, and mixtures that give other layers more bits are in it by their bytes.

Not in it: attention costs more behind more image tokens, a short question is prefilled less efficiently than an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aesedge.bench.photo_timing import N_CRITIQUE
from aesedge.bench.result import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aesedge.bench.result import Row
    from aesedge.engine.model import Model

    MeasureTypes = Callable[[Model, Callable[[float], None]], "TypeCosts"]
    """Times other types against that of an open model."""

_SHARES = (1, 3 / 4, 1 / 2, 1 / 4, 1 / 9)


@dataclass(frozen=True)
class TypeCost:
    """How a type compares with the measured one."""

    gguf: str
    prefill: float
    """Seconds for a row, as a multiple of the measured type's."""
    decode: float
    """Seconds for a token of the large model, as a multiple of the measured type's."""
    bytes_per_token: int
    """Weights that decoding a token reads in the large model."""
    repack: bool
    """Whether its weights were copied into layouts for this CPU."""


class TypeCosts(NamedTuple):
    """What was found within the time."""

    costs: list[TypeCost]
    left_out: dict[str, str]
    """Type to the reason why nothing is known of it."""


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

    def prediction(
        self, basis: str, *, gguf: str = "", n: int | None = None, prefill: float = 1.0, decode: float = 1.0
    ) -> Prediction:
        """Return seconds for a photo.

        Args:
            basis: what they are calculated from.
            gguf: the type; empty is the measured one.
            n: image tokens; None are as many as were measured.
            prefill: seconds for a row, as a multiple of the measured type's.
            decode: seconds for a token.
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
    """Return what a photo was found to be made of; None where a row that is needed was not measured."""
    found = {row.test: row for row in rows if row.samples_ns}
    plan, manifest = model.plan, model.manifest
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
        n_question=len(model.question_tokens(manifest.rating.question)),
        n_critique=len(model.question_tokens(manifest.prompt.critique)),
        n_gen=N_CRITIQUE,
        n_label_steps=len(model.labels.prefixes),
    )


def budgets_of(least: int, most: int) -> list[int]:
    """Return numbers of image tokens that are worth a prediction, the most first."""
    return sorted({n for n in (round(share * most) for share in _SHARES) if least <= n <= most}, reverse=True)


def predict_budgets(measured: Measured, budgets: Iterable[int]) -> list[Prediction]:
    """Return what other numbers of image tokens would take in the measured type."""
    basis = f"rates measured with {measured.n_image_tokens} image tokens"
    return [measured.prediction(basis, n=n) for n in budgets if n != measured.n_image_tokens]


def predict_types(measured: Measured, costs: Iterable[TypeCost]) -> list[Prediction]:
    """Return what other types would take, with the measured number of image tokens."""
    return [
        measured.prediction(
            f"{measured.gguf.lower()} as measured; against it prefill takes {cost.prefill:.2f} and decode "
            f"{cost.decode:.2f} times as long, by models of few layers, as wide"
            + (", weights repacked" if cost.repack else ""),
            gguf=cost.gguf,
            prefill=cost.prefill,
            decode=cost.decode,
        )
        for cost in costs
    ]


def predict(
    model: Model, rows: Sequence[Row], measure_types: MeasureTypes | None, show: Callable[[float], None]
) -> tuple[list[Prediction], list[str]]:
    """Predict other budgets where the bundle can, other types where small models of them can be made.

    Args:
        model: open, as it was measured.
        rows: what was measured.
        measure_types: times other types; None predicts budgets alone.
        show: called with the share done, 0..1.

    Returns:
        What is predicted, and remarks on what is not.
    """
    measured = measured_of(model, rows)
    if measured is None:
        return [], []
    tokens = model.manifest.image_tokens
    found = predict_budgets(measured, budgets_of(tokens.min, tokens.max))
    if measure_types is None:
        return found, []
    types = measure_types(model, show)
    notes = [f"no prediction for {kind}: {why}" for kind, why in types.left_out.items()]
    return found + predict_types(measured, types.costs), notes
