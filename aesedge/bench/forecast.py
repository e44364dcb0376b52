"""From the rows of a run to predictions for other types and budgets; knows which row says what, calculates nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.bench.photo_tests import N_CRITIQUE
from aesedge.bench.predict import Measured, budgets_of, predict_budgets, predict_types
from aesedge.bench.type_costs import Workshop, measure_types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aesedge.bench.result import Prediction, Row
    from aesedge.bench.type_costs import WriteProbe
    from aesedge.engine import Model

SECONDS = 45.0
"""For small models of other types."""


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


def forecast(
    model: Model, rows: Sequence[Row], write_probe: WriteProbe | None, show: Callable[[float], None]
) -> tuple[list[Prediction], list[str]]:
    """Predict other budgets where the bundle can, other types where small models of them can be made.

    Args:
        model: open, as it was measured.
        rows: what was measured.
        write_probe: makes small models; None predicts budgets alone.
        show: called with the share done, 0..1.

    Returns:
        What is predicted, and remarks on what is not.
    """
    measured = measured_of(model, rows)
    if measured is None:
        return [], []
    tokens = model.manifest.image_tokens
    notes: list[str] = []
    found = predict_budgets(measured, budgets_of(tokens.min, tokens.max))
    if write_probe is not None:
        with tempfile.TemporaryDirectory(prefix="aesedge-bench-") as folder:
            workshop = Workshop(model.plan, write_probe, Path(folder), model.scheduler.call, model.n_gpu_layers)
            types = measure_types(workshop, seconds=SECONDS, progress=show)
        found += predict_types(measured, types.costs)
        notes += [f"no prediction for {kind}: {why}" for kind, why in types.left_out.items()]
    return found, notes
