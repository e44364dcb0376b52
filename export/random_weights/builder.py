"""Make a bundle of random weights from a shape, step by step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aesedge.bundle.bundle import open_bundle
from aesedge.bundle.manifest import FORMAT_VERSION, Defaults, Manifest, Source
from aesedge.errors import BundleError, UsageError
from aesedge.image import read_image
from aesedge.samples import SAMPLE_PHOTOS

from ..bundle_files import created_by, described, typed, write_manifest
from ..disk_space import require_space
from ..language.language_files import report_pass
from ..language.language_gguf import language_bytes
from ..language.tensor_types import parse_type
from ..parity.self_proof import not_proven
from ..plan import checked_name, checked_precisions, default_precision, default_type, image_token_range
from ..progress import silent
from ..questions import default_prompt, default_rating
from ..vision.reduction import BEST, checked_method
from ..vision.vision_builder import write_from_tensors
from ..vision.vision_files import vision_bytes, vision_files
from ..work_folder import check_target, work_folder
from .language import RandomLanguage, write_random
from .mmproj import MMPROJ_NAME, mmproj_bytes, write_mmproj
from .shapes import ModelShape, checked_shape, parse_shape
from .tower import RandomTower
from .vocabulary import make_vocabulary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bundle.manifest import ImageTokens, Role

    from ..progress import OnProgress

_RECIPE = 2
"""Number of the way in which weights are made; another way is another model, and gets another number."""
_CHECKPOINT = "random weights"
_LICENSE = "none needed: the weights are random numbers, made by aesedge for benchmarks; what they say means nothing"
_REASON = "the weights are random, so nothing was measured"


@dataclass(frozen=True)
class _ShapePlan:
    """What was asked for, checked."""

    name: str
    shape: ModelShape
    seed: int
    gguf_types: list[str]
    vision_types: list[str]
    tower: RandomTower
    language: RandomLanguage
    image_tokens: ImageTokens

    @property
    def source(self) -> Source:
        """Everything that the weights follow from."""
        return shape_source(self.shape, self.seed)


def shape_source(shape: ModelShape, seed: int = 0) -> Source:
    """Return what the manifest of a bundle of a shape says of where its weights come from."""
    return Source(checkpoint=_CHECKPOINT, revision=f"{shape}, seed {seed}, recipe {_RECIPE}")


def write_shape(  # noqa: PLR0913 (one argument for each option of the command)
    shape: ModelShape | str,
    out: Path,
    *,
    name: str | None = None,
    gguf_types: Sequence[str] = ("q4_k_m",),
    vision_types: Sequence[str] = ("int8",),
    reduction: str = BEST,
    mmproj: bool = False,
    seed: int = 0,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Manifest:
    """Make a bundle of random weights, or return an existing one that is the same.

    Equal arguments give equal files on one machine.

    Args:
        shape: a shape, its name, or a text as :func:`.shapes.parse_shape` reads it.
        out: the bundle's folder; it appears when everything is done.
        name: the bundle's name; by default the shape's with ``-random`` behind it.
        gguf_types: quantization types, any case.
        vision_types: precisions of the vision graph.
        reduction: how fewer image tokens are made of all of them, or ``none``.
        mmproj: whether the same tower is put beside the bundle's files as :data:`.mmproj.MMPROJ_NAME`, for llama.cpp.
        seed: another number gives other weights.
        overwrite: whether another bundle that is there may be replaced.
        progress: called with step, share done, and what is being worked on.

    Returns:
        The bundle's manifest.

    Raises:
        UsageError: an option is wrong, or ``out`` may not be replaced.
        BundleError: ``out`` cannot be written, or there is no room for it.
    """
    out, report = Path(out).absolute(), progress or silent
    plan = _checked(shape, name, gguf_types, vision_types, reduction, seed)
    manifest = _reusable(plan, out)
    if manifest is not None:
        if mmproj and not (out / MMPROJ_NAME).is_file():
            _add_mmproj(plan.tower, out, report)
        return manifest
    check_target(out, overwrite=overwrite)
    n_bytes = sum(language_bytes(plan.language, plan.gguf_types).values())
    n_bytes += vision_bytes(plan.tower.n_parameters, plan.vision_types)
    require_space(out.parent, n_bytes + mmproj * mmproj_bytes(plan.tower), "the bundle and what is written on the way")
    with work_folder(out, overwrite=overwrite) as folder:
        if mmproj:
            _write_mmproj(plan.tower, folder / MMPROJ_NAME, report)
        return _build(plan, folder, report)


def _checked(
    shape: ModelShape | str,
    name: str | None,
    gguf_types: Sequence[str],
    vision_types: Sequence[str],
    reduction: str,
    seed: int,
) -> _ShapePlan:
    """Return a plan of what was asked for.

    Raises:
        UsageError: something of it is wrong.
    """
    shape = parse_shape(shape) if isinstance(shape, str) else checked_shape(shape)
    types = list(dict.fromkeys(parse_type(t) for t in gguf_types))
    default_type(types, None)  # refuses an empty list
    if seed < 0:
        raise UsageError(f"the seed is {seed}; give a number from 0")
    name = checked_name(name or f"{shape.name}-random")
    tower = RandomTower(shape, seed=seed)
    return _ShapePlan(
        name=name,
        shape=shape,
        seed=seed,
        gguf_types=types,
        vision_types=checked_precisions(vision_types),
        tower=tower,
        language=RandomLanguage(shape, make_vocabulary(shape.n_vocab), name=name, seed=seed),
        image_tokens=image_token_range(tower.shape.n_image_tokens, checked_method(reduction)),
    )


def _reusable(plan: _ShapePlan, out: Path) -> Manifest | None:
    """Return the manifest of a bundle that is there, whole, and what is asked for."""
    try:
        found = open_bundle(out).manifest  # reads one format version alone, and sees that all files have their size
    except BundleError:
        return None
    asked = {("llm", kind) for kind in plan.gguf_types} | {("vision", kind) for kind in plan.vision_types}
    reductions = [(tokens.min, tokens.max, tokens.method) for tokens in (found.image_tokens, plan.image_tokens)]
    same = (found.source, found.name, reductions[0]) == (plan.source, plan.name, reductions[1])
    return found if same and asked <= {(file.role, file.type) for file in found.files} else None


def _build(plan: _ShapePlan, folder: Path, report: OnProgress) -> Manifest:
    """Write everything into an empty folder, the manifest last."""
    files: list[tuple[Role, str, Path]] = []
    fidelity = not_proven(_REASON)
    with vision_files(
        lambda path: write_from_tensors(plan.tower.shape, plan.tower.tensor, path, facts={"checkpoint": _CHECKPOINT}),
        plan.vision_types,
        folder,
        photos=[read_image(SAMPLE_PHOTOS[0])],  # what a range of random weights is on one photo, it is on all
        calibrate=False,
        image=plan.tower.image,
        reduction=plan.image_tokens.method,
        report=report,
    ) as vision:
        files += [("vision", precision, path) for precision, path in vision.asked.items()]
        fidelity["vision"] = {
            precision: {key: value for key, value in made.items() if key.endswith("_in_fp32")}
            for precision, made in vision.made.items()
        }
    for kind in plan.gguf_types:
        path = folder / f"llm-{kind.lower()}.gguf"
        otherwise = write_random(plan.language, kind, path, progress=report_pass(report, f"language model {kind}"))
        if otherwise:
            fidelity["types"][kind] = {"stored_otherwise": otherwise}
        files.append(("llm", kind, path))
    return write_manifest(folder, _manifest(plan, files, fidelity, report), loaded=True)  # as sound as our own numbers


def _manifest(
    plan: _ShapePlan, files: Sequence[tuple[Role, str, Path]], fidelity: dict[str, Any], report: OnProgress
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=plan.name,
        created_by=created_by(),
        source=plan.source,
        license=_LICENSE,
        files=described(files, report),
        defaults=Defaults(gguf=default_type(plan.gguf_types, None), vision=default_precision(plan.vision_types)),
        image=plan.tower.image,
        image_tokens=plan.image_tokens,
        n_embd=plan.shape.n_embd,
        prompt=default_prompt(),
        rating=default_rating(),
        fidelity=typed(fidelity),
    )


def _add_mmproj(tower: RandomTower, out: Path, report: OnProgress) -> None:
    """Add the mmproj file to an existing bundle, atomically."""
    require_space(out, mmproj_bytes(tower), "the mmproj file")
    partial = out / f".{MMPROJ_NAME}.{os.getpid()}.partial"
    try:
        _write_mmproj(tower, partial, report)
        partial.replace(out / MMPROJ_NAME)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written: {error.strerror or error}; make room") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_mmproj(tower: RandomTower, path: Path, report: OnProgress) -> None:
    report("mmproj", 0.0)
    write_mmproj(tower, path, progress=lambda share: report("mmproj", share))
