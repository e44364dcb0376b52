"""Measure what a setting changes in scores and texts, against the most precise one that its bundle has.

The reference is open first, alone: what it writes is what both then read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aesedge.bench.result import RANDOM_WEIGHTS, Quality
from aesedge.bundle.gguf_types import GGUF_TYPES
from aesedge.config.planning import make_plan
from aesedge.engine.likelihood import Changes, Reading, read_photo
from aesedge.engine.model import Model
from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Manifest
    from aesedge.config.options import Options
    from aesedge.config.plan import Plan

_GGUF_ORDER = ("f32", "bf16", *(name.lower() for name in GGUF_TYPES if name not in {"F32", "BF16"}))
"""The most precise first. bf16 stands before f16: weights are trained in it, and it loses nothing of those."""
_VISION_ORDER = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Reference:
    """What the reference said of each photo."""

    name: str
    """Its types, image tokens and KV cache."""
    attributes: bool
    """Whether the attributes were scored too."""
    photos: Sequence[Path]
    readings: Sequence[Reading]
    note: str


def reference_options(manifest: Manifest, options: Options) -> Options:
    """Return how a bundle's reference is opened: the most precise files, all image tokens, f16 KV, nothing tuned."""
    return replace(
        options,
        gguf=_most_precise(manifest.types("llm"), _GGUF_ORDER, manifest.defaults.gguf),
        vision=_most_precise(manifest.types("vision"), _VISION_ORDER, manifest.defaults.vision),
        image_tokens=None,
        kv_type="f16",
        ctx=None,
        photos=1,
        tuned=False,
        cache="0",
    )


def _most_precise(types: Sequence[str], order: Sequence[str], default: str) -> str:
    by_name = {type_.lower(): type_ for type_ in types}
    return next((by_name[name] for name in order if name in by_name), default)


def setting_name(plan: Plan) -> str:
    """Name what of a setting changes scores and texts."""
    return f"{plan.gguf.lower()}, vision {plan.vision.lower()}, {plan.n_image_tokens} image tokens, KV {plan.kv_type}"


def read_reference(
    bundle: Bundle,
    options: Options,
    *,
    photos: Sequence[Path] = SAMPLE_PHOTOS,
    attributes: bool = True,
    progress: Callable[[float], None] = lambda _share: None,
) -> Reference | Quality:
    """Open the reference, let it score photos and write about them, and close it.

    Args:
        bundle: the bundle.
        options: of the measured setting.
        photos: which.
        attributes: whether the attributes' scores are compared too: four more questions a photo.
        progress: called with the share of the photos that are done, 0..1.

    Returns:
        What it said; or the result at once, where the measured setting is the reference itself.

    Raises:
        MemoryFitError: the reference does not fit this machine's memory.
    """
    manifest = bundle.manifest
    chosen = reference_options(manifest, options)
    name, is_random = setting_name(make_plan(chosen, bundle)), manifest.source.checkpoint == RANDOM_WEIGHTS
    if name == setting_name(make_plan(options, bundle)):
        why = "a bundle of random weights with nothing else" if is_random else "the bundle has nothing more precise"
        note = f"not measured: the setting is the reference itself ({why})"
        unchanged = {"score_drift": 0.0, "worst_score_drift": 0.0, "nll_change": 0.0}
        return Quality(setting=name, reference=name, n_photos=0, note=note, **unchanged)
    note = "the weights are random: this says how the runtime rounds, nothing about a trained model"
    readings: list[Reading] = []
    with Model(bundle, chosen) as model:
        for i, path in enumerate(photos):
            with model.look(path) as photo:
                readings.append(read_photo(model, photo, attributes=attributes))
            progress((i + 1) / len(photos))
    return Reference(name, attributes, list(photos), readings, note if is_random else "")


def compare(reference: Reference, model: Model, *, progress: Callable[[float], None] = lambda _share: None) -> Quality:
    """Let an open model in the measured setting score the same photos, and read what the reference wrote."""
    changes = Changes()
    for i, (path, theirs) in enumerate(zip(reference.photos, reference.readings, strict=True)):
        with model.look(path) as photo:
            changes.add(theirs, read_photo(model, photo, theirs.text, attributes=reference.attributes))
        progress((i + 1) / len(reference.readings))
    setting = setting_name(model.internals.plan)
    return Quality(setting=setting, reference=reference.name, note=reference.note, **changes.figures())
