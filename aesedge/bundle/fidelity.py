"""Describe the fidelity figures in a manifest as typed data.

Names of figures have changed: older bundles have others, which are ignored, and lack some of these.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

_MOST = 1e12
Figure = Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)] | None
"""None is what JSON makes of a figure that is not a number."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)] | None
Words = Annotated[str, msgspec.Meta(max_length=2000)]
Names = Annotated[list[Words], msgspec.Meta(max_length=10_000)]
Figures = Annotated[dict[Words, Figure], msgspec.Meta(max_length=1000)]


class StageFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One comparison with the reference, and what it was allowed to be."""

    stage: Words = ""
    figures: Figures = {}
    limits: Figures = {}


class LanguageFigures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a language file costs against its reference."""

    mean_kl: Figure = None
    max_kl: Figure = None
    n_top1_equal: Count = None
    n_argmax_equal: Count = None
    """What ``n_top1_equal`` was called."""
    n_positions: Count = None
    n_prompts: Count = None
    """What ``n_positions`` was called."""
    mean_score_drift: Figure = None
    max_score_drift: Figure = None
    verdict: Words = ""


class LanguageFidelity(LanguageFigures, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of one quantization type."""

    n_bytes: Count = None
    against: Words = ""
    made_of: Words = ""
    """The type that it was made of, where that was not the checkpoint."""
    checked: bool | None = None
    without_importance: LanguageFigures | None = None
    with_importance: LanguageFigures | None = None
    stored_otherwise: dict[Words, Words] = {}
    """Tensor to the type that it has instead."""


class VisionFidelity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The figures of one precision of the vision graph."""

    n_bytes: Count = None
    against: Words = ""
    max_abs_diff: Figure = None
    max_relative_diff: Figure = None
    min_cosine: Figure = None
    mean_cosine: Figure = None
    limit: Figure = None
    largest: Figure = None
    """Largest absolute value in the graph."""
    mean_score_drift: Figure = None
    max_score_drift: Figure = None
    limits: Figures = {}
    layers_in_fp32: Names = []
    nodes_in_fp32: Names = []
    n_photos: Count = None
    n_images: Count = None


class ImportanceData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the importance of the language model's inputs was measured on."""

    photos: Names = []


class ComparedSetting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One way to run the bundle, and how well it agreed with people."""

    gguf: Words = ""
    vision: Words = ""
    image_tokens: Count = None
    kv_type: Words = ""
    agreement: Figure = None
    """See :attr:`Comparison.measure`; for questions, of the likeliest letters."""
    low: Figure = None
    """Lower end of the 95 % interval of ``agreement``."""
    high: Figure = None
    change: Figure = None
    """Of ``agreement`` against the first setting; absent for that one itself."""
    change_low: Figure = None
    change_high: Figure = None
    p_value: Figure = None
    """McNemar's, that this and the first setting answer equally many questions rightly; absent for ratings."""
    text_agreement: Figure = None
    """Share of right answers by the texts, 0..1; absent for ratings."""
    text_change: Figure = None
    text_p_value: Figure = None
    drift: Figure = None
    """Mean change of the scores in points of 10; for questions the share with another letter, 0..1."""
    per_minute: Figure = None
    """Photographs or questions, loading excluded."""

    @property
    def name(self) -> str:
        """All four settings in one text."""
        return f"{self.gguf}, {self.vision}, {self.image_tokens} tokens, KV {self.kv_type}"


class Comparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``eval compare --write`` measured."""

    measure: Words = ""
    """``srcc``, the rank correlation with people's ratings; or ``accuracy``, the share of right answers."""
    data: Words = ""
    """File name of the ratings or questions."""
    data_sha256: Words = ""
    n: Count = None
    """Photographs or questions."""
    date: Words = ""
    """UTC."""
    aesedge: Words = ""
    """Version."""
    libraries: dict[Words, Words] = {}
    machine: Words = ""
    files: dict[Words, Words] = {}
    """File of the bundle to its SHA-256 when it was measured."""
    settings: Annotated[list[ComparedSetting], msgspec.Meta(max_length=1000)] = []
    """The first one is the reference."""
    recommended: Count = None
    """Index of the fastest setting that lost nothing measurable."""

    @property
    def best(self) -> ComparedSetting | None:
        """The recommended setting."""
        i = self.recommended
        return self.settings[i] if i is not None and i < len(self.settings) else None

    @property
    def things(self) -> str:
        """What was compared on."""
        return "questions" if self.measure == "accuracy" else "photographs"

    def recommendation(self) -> str:
        """Return the recommended setting in one line; empty where there is none."""
        if self.best is None:
            return ""
        where = ", ".join(filter(None, [self.data, f"{self.n or 0:,} {self.things}", self.date[:10]]))
        return f"{self.best.name}: the fastest that lost nothing measurable in eval compare ({where})"


class Fidelity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Figures measured at export, stage by stage, and a comparison of settings that was made later."""

    checked: bool | None = None
    """Whether the bundle was compared with PyTorch."""
    reason: Words = ""
    """Why not."""
    reference: Words = ""
    note: Words = ""
    photos: Names = []
    n_positions: Count = None
    stages: Annotated[list[StageFigures], msgspec.Meta(max_length=1000)] = []
    types: dict[Words, LanguageFidelity] = {}
    vision: dict[Words, VisionFidelity] = {}
    verdicts: dict[Words, Figures] = {}
    importance: ImportanceData | None = None
    comparison: Comparison | None = None
