"""From a checkpoint to a bundle: the order of the steps; each step's work is in the module that it calls."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from aesedge.hashes import sha256
from aesedge.image import read_image
from aesedge.machine import default_n_threads
from aesedge.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    BundleFile,
    Defaults,
    ImageTokens,
    Manifest,
    PromptSpec,
    RatingSpec,
    Role,
    Source,
    format_manifest,
    parse_manifest,
)
from aesedge.prompt import prompt_template
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.vision import VisionTower

from .checkpoint import Checkpoint, open_checkpoint
from .language_gguf import write_f16
from .parity import Inputs, Runtime, measure_parity, measure_type
from .plan import (
    DEFAULT_GGUF_TYPES,
    VISION_TYPES,
    Plan,
    check_labels,
    check_vision_types,
    checked_card,
    checked_name,
    default_type,
)
from .quantizer import Fallback, parse_type, quantize
from .questions import default_prompt, default_rating
from .reference import Reference
from .stages import as_records
from .vision_graph import write_fp32
from .work_folder import check_target, work_folder

Progress = Callable[[str, float], None]
"""Called with the name of a step and the share of it that is done, 0..1."""


def export_checkpoint(  # noqa: PLR0913 (one argument for each option of the command)
    checkpoint: Path,
    out: Path,
    *,
    name: str | None = None,
    gguf_types: Sequence[str] = DEFAULT_GGUF_TYPES,
    default_gguf: str | None = None,
    vision_types: Sequence[str] = VISION_TYPES,
    license: str = "not stated",  # noqa: A002 (the manifest's word)
    prompt: PromptSpec | None = None,
    rating: RatingSpec | None = None,
    photos: Sequence[Path] | None = None,
    card: Path | None = None,
    vision_tower: Path | None = None,
    parity: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Turn a LLaVA-1.5 checkpoint into a bundle and prove that it answers as PyTorch does.

    Args:
        checkpoint: folder of a Hugging Face or an original-LLaVA checkpoint; it is only read.
        out: the bundle's folder; it appears when everything is done.
        name: the bundle's name; by default the folder's.
        gguf_types: quantization types of the language model, any case.
        default_gguf: the type that is loaded when none is asked for; by default Q4_K_M, else the first.
        vision_types: precisions of the vision graph.
        license: licence of the weights.
        prompt: template and critique question; by default AesExpert's.
        rating: score and attribute questions and their labels; by default AesExpert's.
        photos: what parity is measured on; by default the sample photographs.
        card: a model card in Markdown to put into the bundle.
        vision_tower: folder of the CLIP model, where an original-LLaVA checkpoint does not hold it.
        parity: whether to compare with PyTorch, which needs 4 bytes of memory a weight.
        overwrite: whether a bundle that is there may be replaced.
        progress: called with step and share done.

    Returns:
        The manifest as written; ``fidelity`` holds the parity figures.

    Raises:
        UsageError: an option is wrong, or ``out`` may not be replaced.
        CheckpointError: the checkpoint is incomplete or of another kind.
        ParityError: the result differs from PyTorch by more than the stated tolerance; nothing is left behind.
        BundleError: ``out`` cannot be written.
    """
    out = Path(out).absolute()
    check_target(out, overwrite=overwrite)
    check_vision_types(vision_types)
    types = list(dict.fromkeys(parse_type(t) for t in gguf_types))
    plan = Plan(
        name=checked_name(name or out.name),
        gguf_types=types,
        default_gguf=default_type(types, default_gguf),
        license=license,
        prompt=prompt or default_prompt(),
        rating=rating or default_rating(),
        photos=[(Path(p).name, read_image(p)) for p in photos or SAMPLE_PHOTOS],
        card=checked_card(card),
        parity=parity,
    )
    prompt_template(plan.prompt.template)
    report = progress or (lambda _step, _share: None)
    report("read checkpoint", 0.0)
    source = open_checkpoint(Path(checkpoint), vision_tower=vision_tower)
    check_labels(source, plan.rating)
    report("read checkpoint", 1.0)
    with work_folder(out, overwrite=overwrite) as folder:
        return _build(source, plan, folder, report)


def _build(source: Checkpoint, plan: Plan, folder: Path, report: Progress) -> Manifest:
    """Write everything into an empty folder, the manifest last."""
    vision = folder / "vision-fp32.onnx"
    report("vision fp32", 0.0)
    write_fp32(source, vision)
    report("vision fp32", 1.0)
    paths, fallbacks = _write_language(source, plan, folder, report)
    fidelity = _fidelity(source, plan, vision, paths, report)
    _note_fallbacks(fidelity, fallbacks)
    if "F16" not in plan.gguf_types:
        paths["F16"].unlink()
    files: list[tuple[Role, str, Path]] = [("vision", "fp32", vision), *(("llm", t, paths[t]) for t in plan.gguf_types)]
    if plan.card is not None:
        shutil.copyfile(plan.card, folder / "card.md")
        files.append(("card", "md", folder / "card.md"))
    report("hashes", 0.0)
    manifest = _manifest(source, plan, files, fidelity)
    data = format_manifest(manifest)
    (folder / MANIFEST_NAME).write_bytes(data)
    report("hashes", 1.0)
    return parse_manifest(data, MANIFEST_NAME)


def _write_language(
    source: Checkpoint, plan: Plan, folder: Path, report: Progress
) -> tuple[dict[str, Path], dict[str, list[Fallback]]]:
    """Write F16 and the asked types made of it; return type to file, and type to tensors that are stored otherwise."""
    paths = {t: folder / f"llm-{t.lower()}.gguf" for t in ("F16", *plan.gguf_types)}
    write_f16(source, paths["F16"], name=plan.name, progress=lambda share: report("language F16", share))
    fallbacks = {}
    for gguf_type, path in paths.items():
        if gguf_type != "F16":
            report(f"language {gguf_type}", 0.0)
            fallbacks[gguf_type] = quantize(paths["F16"], path, gguf_type)
            report(f"language {gguf_type}", 1.0)
    return paths, fallbacks


def _fidelity(source: Checkpoint, plan: Plan, vision: Path, paths: dict[str, Path], report: Progress) -> dict[str, Any]:
    """Measure the bundle against PyTorch, and every quantization type against F16."""
    if not plan.parity:
        return {"checked": False, "types": {}}
    n_threads = default_n_threads(vision.stat().st_size + paths["F16"].stat().st_size)
    inputs = Inputs([picture for _, picture in plan.photos], source.image, plan.prompt, plan.rating.question)
    tower = VisionTower(vision, device="cpu", n_threads=n_threads)
    try:
        with Runtime(tower, paths["F16"], n_threads) as f16:
            report("parity", 0.0)
            with Reference(source, n_threads) as reference:
                stages = measure_parity(reference, f16, inputs, lambda share: report("parity", share))
            types: dict[str, Any] = {}
            for gguf_type, path in paths.items():
                if gguf_type != "F16":
                    with Runtime(tower, path, n_threads) as other:
                        types[gguf_type] = measure_type(f16, other, inputs)
    finally:
        tower.close()
    return {
        "checked": True,
        "reference": reference.description,
        "photos": [name for name, _ in plan.photos],
        "stages": as_records(stages),
        "types": types,
    }


def _note_fallbacks(fidelity: dict[str, Any], fallbacks: dict[str, list[Fallback]]) -> None:
    for gguf_type, tensors in fallbacks.items():
        if tensors:
            noted = {f.tensor: f.type for f in tensors}
            fidelity["types"].setdefault(gguf_type, {})["stored_otherwise"] = noted


def _manifest(
    source: Checkpoint, plan: Plan, files: Sequence[tuple[Role, str, Path]], fidelity: dict[str, Any]
) -> Manifest:
    n_image_tokens = source.architecture.n_image_tokens
    return Manifest(
        format_version=FORMAT_VERSION,
        name=plan.name,
        created_by=f"aesedge {_version()}",
        source=Source(checkpoint=source.folder.name, revision=_revision(source.folder), layout=source.layout),
        license=plan.license,
        files=[
            BundleFile(path=p.name, role=r, type=t, n_bytes=p.stat().st_size, sha256=sha256(p)) for r, t, p in files
        ],
        defaults=Defaults(gguf=plan.default_gguf, vision="fp32"),
        image=source.image,
        image_tokens=ImageTokens(min=n_image_tokens, max=n_image_tokens),
        n_embd=source.architecture.text.hidden_size,
        prompt=plan.prompt,
        rating=plan.rating,
        fidelity=fidelity,
    )


def _version() -> str:
    try:
        return metadata.version("aesedge")
    except metadata.PackageNotFoundError:  # run from a source folder
        return "(source)"


def _revision(folder: Path) -> str:
    """Return the commit of a checkpoint in the Hugging Face cache, whose folder is called after it."""
    name = folder.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{40}", name) else ""
