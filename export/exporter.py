"""Export a checkpoint to a bundle, step by step."""

from __future__ import annotations

import logging
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aesedge.bundle.manifest import FORMAT_VERSION, Defaults, Manifest, PromptSpec, RatingSpec, Source
from aesedge.errors import ImageError, UsageError
from aesedge.image import read_image
from aesedge.llm.prompt import prompt_template
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import default_n_threads
from aesedge.system.sanitize import sanitize
from aesedge.vision.tower import VisionTower

from .bundle_files import created_by, described, typed, write_manifest
from .checkpoint.checkpoint import Checkpoint, open_checkpoint
from .disk_space import require_space
from .language.checkpoint_source import CheckpointSource
from .language.importance import Calibration, gather
from .language.language_files import keep_the_better, language_files, work_bytes
from .language.tensor_types import parse_type
from .parity.proof import prove
from .parity.proof_inputs import BundleFiles, Inputs
from .parity.self_proof import not_proven
from .plan import (
    DEFAULT_GGUF,
    DEFAULT_VISION,
    ExportPlan,
    check_labels,
    checked_card,
    checked_name,
    checked_precisions,
    default_precision,
    default_type,
    image_token_range,
    listed,
)
from .progress import silent
from .questions import default_prompt, default_rating
from .vision.reduction import BEST, checked_method
from .vision.vision_files import note_making, vision_bytes, vision_files
from .vision.vision_graph import write_fp32
from .work_folder import check_target, clear_leftovers, work_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from aesedge.bundle.manifest import BundleFile, Role

    from .language.language_files import LanguageFiles
    from .progress import OnProgress
    from .vision.vision_files import VisionFiles

_log = logging.getLogger("aesedge")


def export_checkpoint(  # noqa: PLR0913 (one argument for each option of the command)
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    gguf_types: Sequence[str] = tuple(listed(DEFAULT_GGUF)),
    default_gguf: str | None = None,
    vision_types: Sequence[str] = tuple(listed(DEFAULT_VISION)),
    license: str = "not stated",  # noqa: A002 (the manifest's word)
    prompt: PromptSpec | None = None,
    rating: RatingSpec | None = None,
    photos: Sequence[Path] | None = None,
    calibrate: Sequence[Path] = (),
    card: Path | None = None,
    vision_tower: Path | None = None,
    base: Path | None = None,
    reduction: str = BEST,
    source_name: str | None = None,
    revision: str | None = None,
    parity: bool = True,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Manifest:
    """Turn a LLaVA-1.5 checkpoint into a bundle and prove that it answers as PyTorch does.

    Args:
        checkpoint: folder of a Hugging Face or an original-LLaVA checkpoint, or of a LoRA adapter; it is only read.
        out: the bundle's folder; it appears when everything is done.
        name: the bundle's name; by default the folder's.
        gguf_types: quantization types of the language model, any case.
        default_gguf: the type that is loaded when none is asked for; by default Q4_K_M, else the first.
        vision_types: precisions of the vision graph; int8 is loaded when none is asked for, else fp32, else fp16.
        license: licence of the weights.
        prompt: template and critique question; by default AesExpert's.
        rating: score and attribute questions and their labels; by default AesExpert's.
        photos: what parity is measured on; by default the sample photographs.
        calibrate: photos, on which the importance of every input of the language model is measured for the types
            below Q8_0; none does without.
        card: a model card in Markdown to put into the bundle.
        vision_tower: folder of the CLIP model, where an original-LLaVA checkpoint does not hold it.
        base: folder of the model that a LoRA adapter is merged onto.
        reduction: how fewer image tokens are made of all of them, see :data:`.reduction.OFFERED`; or ``none``.
        source_name: what the manifest calls the checkpoint; by default its folder's name.
        revision: commit of the checkpoint; by default what its place in the Hugging Face cache tells.
        parity: whether to compare with PyTorch.
        overwrite: whether a bundle that is there may be replaced.
        progress: called with step, share done, and what is being worked on.

    Returns:
        The manifest as written; ``fidelity`` holds the figures.

    Raises:
        UsageError: an option is wrong, or ``out`` may not be replaced.
        CheckpointError: the checkpoint is incomplete or of another kind.
        ParityError: the result differs from PyTorch by more than the stated tolerance; nothing is left behind.
        BundleError: ``out`` cannot be written, or there is no room for it.
    """
    out = Path(out).absolute()
    clear_leftovers(out)
    check_target(out, overwrite=overwrite)
    types = list(dict.fromkeys(parse_type(t) for t in gguf_types))
    plan = ExportPlan(
        name=checked_name(name or out.name),
        gguf_types=types,
        default_gguf=default_type(types, default_gguf),
        vision_types=checked_precisions(vision_types),
        license=license,
        prompt=prompt or default_prompt(),
        rating=rating or default_rating(),
        photos=[(sanitize(Path(p).name), read_image(p)) for p in photos or SAMPLE_PHOTOS],
        calibration=_calibration(calibrate),
        card=checked_card(card),
        parity=parity,
        reduction=checked_method(reduction),
    )
    prompt_template(plan.prompt.template)
    report = progress or silent
    report("read checkpoint", 0.0)
    source = open_checkpoint(Path(checkpoint), vision_tower=vision_tower, base=base)
    check_labels(source, plan.rating)
    language = CheckpointSource(source, name=plan.name)
    n_bytes = work_bytes(language, plan.gguf_types, calibrated=bool(plan.calibration))
    n_bytes += vision_bytes(source.n_vision_parameters, plan.vision_types)
    require_space(out.parent, n_bytes, "the bundle and what is written on the way to it")
    origin = Source(
        checkpoint=sanitize(source_name or source.folder.name),
        revision=_revision(source.folder) if revision is None else revision,
        layout=source.layout,
    )
    report("read checkpoint", 1.0)
    with work_folder(out, overwrite=overwrite) as folder:
        return _build(source, language, plan, origin, folder, report)


def _build(
    source: Checkpoint,
    language: CheckpointSource,
    plan: ExportPlan,
    origin: Source,
    folder: Path,
    report: OnProgress,
) -> Manifest:
    """Write everything into an empty folder, the manifest last."""
    n_threads = default_n_threads(source.n_bytes)
    pictures = [picture for _, picture in plan.photos]
    with (
        vision_files(
            partial(write_fp32, source),
            plan.vision_types,
            folder,
            photos=pictures,
            image=source.image,
            reduction=image_token_range(source.architecture.n_image_tokens, plan.reduction).method,
            report=report,
        ) as vision,
        language_files(
            language,
            plan.gguf_types,
            folder,
            gather=partial(_gather, plan, source, vision.fp32, n_threads, report) if plan.calibration else None,
            n_threads=n_threads,
            report=report,
        ) as llm,
    ):
        fidelity = _fidelity(source, plan, vision, llm, n_threads, report)
        keep_the_better(llm, fidelity["types"])
        files: list[tuple[Role, str, Path]] = [
            *(("vision", precision, path) for precision, path in vision.asked.items()),
            *(("llm", gguf_type, path) for gguf_type, path in llm.llm.items()),
        ]
    if llm.imatrix is not None:
        files.append(("imatrix", "gguf", llm.imatrix))
    if plan.card is not None:
        shutil.copyfile(plan.card, folder / "card.md")
        files.append(("card", "md", folder / "card.md"))
    manifest = _manifest(source, plan, origin, described(files, report), fidelity)
    return write_manifest(folder, manifest, loaded=plan.parity)


def _gather(plan: ExportPlan, source: Checkpoint, vision: Path, n_threads: int, report: OnProgress, llm: Path) -> Any:
    calibration = Calibration(plan.calibration, source.image, plan.prompt, plan.rating)
    with VisionTower(vision, device="cpu", n_threads=n_threads) as tower:
        return gather(llm, tower, calibration, n_threads=n_threads, progress=partial(report, "importance of inputs"))


def _fidelity(
    source: Checkpoint,
    plan: ExportPlan,
    vision: VisionFiles,
    llm: LanguageFiles,
    n_threads: int,
    report: OnProgress,
) -> dict[str, Any]:
    """Measure the bundle against PyTorch, and note what does not come from a measurement of answers."""
    if not plan.parity:
        fidelity = not_proven("not asked for")
    else:
        fidelity = prove(
            source,
            BundleFiles(llm=llm.llm, vision=vision.asked, without_importance=llm.without_importance),
            Inputs(plan.photos, source.image, plan.prompt, plan.rating),
            vision_limits=vision.limits,
            n_threads=n_threads,
            progress=report,
        )
    for gguf_type, tensors in llm.stored_otherwise.items():
        if tensors:
            fidelity["types"].setdefault(gguf_type, {})["stored_otherwise"] = tensors
    note_making(fidelity, vision)
    if plan.calibration:
        fidelity["importance"] = {"photos": [name for name, _ in plan.calibration]}
    return fidelity


def _manifest(
    source: Checkpoint, plan: ExportPlan, origin: Source, files: list[BundleFile], fidelity: dict[str, Any]
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=plan.name,
        created_by=created_by(),
        source=origin,
        license=plan.license,
        files=files,
        defaults=Defaults(gguf=plan.default_gguf, vision=default_precision(plan.vision_types)),
        image=source.image,
        image_tokens=image_token_range(source.architecture.n_image_tokens, plan.reduction),
        n_embd=source.architecture.text.hidden_size,
        prompt=plan.prompt,
        rating=plan.rating,
        fidelity=typed(fidelity),
    )


def _calibration(paths: Sequence[Path]) -> list[tuple[str, Image]]:
    """Read the photos to calibrate with; one that cannot be read is named and left out.

    Raises:
        UsageError: none can be read.
    """
    found = []
    for path in paths:
        try:
            found.append((sanitize(Path(path).name), read_image(path)))
        except ImageError as error:
            _log.warning("left out of the calibration: %s", error)
    if paths and not found:
        raise UsageError("none of the photos to calibrate with can be read; give others")
    return found


def _revision(folder: Path) -> str:
    """Return the commit of a checkpoint in the Hugging Face cache, whose folder is called after it."""
    name = folder.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{40}", name) else ""
