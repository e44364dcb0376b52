"""Import a llama.cpp pair as a bundle, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aesedge.bundle.checksums import sha256
from aesedge.bundle.first_load import ModelFile, check_files, file_state
from aesedge.bundle.manifest import FORMAT_VERSION, Defaults, Manifest, PromptSpec, RatingSpec, Role, Source
from aesedge.engine.rating import label_tokens
from aesedge.errors import CheckpointError, UsageError
from aesedge.image import read_image
from aesedge.llm import LanguageModel
from aesedge.llm.prompt import prompt_template
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import default_n_threads
from aesedge.system.sanitize import sanitize

from ..bundle_files import created_by, described, typed, write_manifest
from ..disk_space import require_space
from ..parity.proof_inputs import BundleFiles, Inputs
from ..parity.self_proof import not_proven
from ..plan import DEFAULT_VISION, checked_precisions, default_precision, image_token_range, listed
from ..progress import silent
from ..questions import default_prompt, default_rating
from ..vision.reduction import BEST
from ..vision.vision_builder import write_from_tensors
from ..vision.vision_files import note_making, vision_bytes, vision_files
from ..work_folder import MMPROJ_NAMES, check_target, work_folder
from .file_copy import place
from .import_proof import prove_import
from .mmproj import READINGS, Reading
from .pair import GgufPair, read_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..progress import OnProgress
    from ..vision.vision_files import VisionFiles

LAYOUTS: dict[Reading, str] = {"trained": "llama.cpp pair", "llama.cpp": "llama.cpp pair, seen as llama.cpp does"}
TEMPLATES = ("llava_v1", "vicuna_v1")
MMPROJ_NAME = MMPROJ_NAMES[LAYOUTS["trained"]]


@dataclass(frozen=True)
class _ImportPlan:
    """What was asked for, checked, and what was found."""

    pair: GgufPair
    name: str
    license: str
    vision_types: list[str]
    reading: Reading
    prompt: PromptSpec
    rating: RatingSpec
    photos: list[Path]
    parity: bool
    link: bool

    @property
    def default_gguf(self) -> str:
        """Q4_K_M where it is there, else the first that was given."""
        return "Q4_K_M" if "Q4_K_M" in self.pair.llms else next(iter(self.pair.llms))


def import_pair(  # noqa: PLR0913 (one argument for each option of the command)
    files: Sequence[Path],
    out: Path,
    *,
    name: str | None = None,
    vision_types: Sequence[str] = tuple(listed(DEFAULT_VISION)),
    reading: Reading = "trained",
    license: str | None = None,  # noqa: A002 (the manifest's word)
    template: str = TEMPLATES[0],
    rating: RatingSpec | None = None,
    photos: Sequence[Path] | None = None,
    parity: bool = True,
    link: bool = False,
    overwrite: bool = False,
    progress: OnProgress | None = None,
) -> Manifest:
    """Turn a LLaVA-1.5 that llama.cpp runs into a bundle, and prove that it sees as llama.cpp's own encoder does.

    Args:
        files: the mmproj and the language model, or several quantization types of it, in any order; they are only
            read.
        out: the bundle's folder; it appears when everything is done.
        name: the bundle's name; by default the folder's.
        vision_types: precisions of the vision graph; int8 is loaded by default where it is among them.
        reading: ``trained`` computes what the model was trained with, ``llama.cpp`` what llama.cpp computes (see
            :mod:`.mmproj`).
        license: licence of the weights; by default what the language model's file says.
        template: the prompt's template.
        rating: score and attribute questions and their labels; by default AesExpert's.
        photos: what parity is measured on; by default the sample photographs.
        parity: whether to compare with libmtmd, and the types with one another.
        link: whether the bundle shares the language model's bytes with the file that was given (a hard link).
        overwrite: whether a bundle that is there may be replaced.
        progress: called with step and share done.

    Returns:
        The manifest as written; ``fidelity`` holds the figures.

    Raises:
        UsageError: an option is wrong, or ``out`` may not be replaced.
        CheckpointError: a file is damaged, of another kind of model, or the files do not belong together.
        BundleFormatError: the labels cannot be told apart in the model's vocabulary.
        ParityError: the vision graph differs from libmtmd by more than the stated tolerance; nothing is left behind.
        BundleError: ``out`` cannot be written, or there is no room for it.
        MissingExtraError: a package of the extra ``convert`` is not installed.
    """
    out = Path(out).absolute()
    check_target(out, overwrite=overwrite)
    if template not in TEMPLATES:
        raise UsageError(f"unknown prompt template {template!r}; there are {', '.join(TEMPLATES)}")
    if reading not in READINGS:
        raise UsageError(f"unknown reading {reading!r}; there are {', '.join(READINGS)}")
    report = progress or silent
    report("read files", 0.0)
    pair = read_pair([Path(path) for path in files])
    plan = _ImportPlan(
        pair=pair,
        name=name or out.name,
        license=license or pair.license or "not stated",
        vision_types=checked_precisions(vision_types),
        reading=reading,
        prompt=PromptSpec(template=template, critique=default_prompt().critique),
        rating=rating or default_rating(),
        photos=[Path(p) for p in photos or SAMPLE_PHOTOS],
        parity=parity,
        link=link,
    )
    _check_words(plan)
    _check_room(plan, out)
    report("read files", 1.0)
    with work_folder(out, overwrite=overwrite) as folder:
        return _build(plan, folder, report)


def _check_words(plan: _ImportPlan) -> None:
    """Check that labels can be told apart and the prompt fits the context, by llama.cpp's own tokenizer."""
    template = prompt_template(plan.prompt.template)
    questions = [plan.rating.question, *plan.rating.attributes.values(), plan.prompt.critique]
    n_image = plan.pair.mmproj.shape(plan.reading).n_image_tokens
    check_files([ModelFile("llm", file.path, file_state(file.path)) for file in plan.pair.llms.values()])
    for file in plan.pair.llms.values():
        with LanguageModel(file.path, vocab_only=True) as model:
            label_tokens(plan.rating.labels, plan.rating.weights, model.tokenize)
            n_after = max(len(model.tokenize(template.after_image(question))) for question in questions)
            n_needed = 1 + len(model.tokenize(template.before_image)) + n_image + n_after
        if n_needed >= plan.pair.n_ctx_train:
            raise CheckpointError(
                f"{file.path}: was trained with {plan.pair.n_ctx_train} positions, an image and a question take "
                f"{n_needed}; this model cannot answer"
            )


def _check_room(plan: _ImportPlan, out: Path) -> None:
    mmproj = plan.pair.mmproj
    n_bytes = vision_bytes(mmproj.shape(plan.reading).n_bytes // 4, plan.vision_types)
    if plan.parity:
        n_bytes += mmproj.file.path.stat().st_size  # the copy for libmtmd
    if not plan.link:
        n_bytes += sum(file.path.stat().st_size for file in (mmproj.file, *plan.pair.llms.values()))
    require_space(out.parent, n_bytes, "the bundle")


def _build(plan: _ImportPlan, folder: Path, report: OnProgress) -> Manifest:
    """Write everything into an empty folder, the manifest last."""
    llms = {}
    for kind, file in plan.pair.llms.items():
        llms[kind] = folder / f"llm-{kind.lower()}.gguf"
        step = f"{'link' if plan.link else 'copy'} {kind}"
        place(file.path, llms[kind], link=plan.link, progress=lambda share, step=step: report(step, share))  # type: ignore[misc]
    mmproj, shape = plan.pair.mmproj, plan.pair.mmproj.shape(plan.reading)
    # llama.cpp's form of the tower stays beside ours: 'aesedge bench --against mtmd' compares the two.
    place(
        mmproj.file.path, folder / MMPROJ_NAME, link=plan.link, progress=lambda share: report("copy the mmproj", share)
    )
    photos = [(sanitize(path.name), read_image(path)) for path in plan.photos]
    facts = {"checkpoint": sanitize(mmproj.file.path.name)}
    with vision_files(
        lambda path: write_from_tensors(shape, mmproj.tensor, path, facts=facts),
        plan.vision_types,
        folder,
        photos=[photo for _, photo in photos],
        image=mmproj.image,
        reduction=image_token_range(shape.n_image_tokens, BEST).method,
        report=report,
    ) as vision:
        fidelity = _fidelity(plan, llms, vision, Inputs(photos, mmproj.image, plan.prompt, plan.rating), report)
    files: list[tuple[Role, str, Path]] = [
        *(("vision", kind, path) for kind, path in vision.asked.items()),
        *(("llm", kind, path) for kind, path in llms.items()),
    ]
    return write_manifest(folder, _manifest(plan, files, fidelity, report), loaded=True)  # see _check_words


def _fidelity(
    plan: _ImportPlan, llms: dict[str, Path], vision: VisionFiles, inputs: Inputs, report: OnProgress
) -> dict[str, Any]:
    """Measure the bundle against libmtmd, and its other files against its most precise ones."""
    fidelity = not_proven("not asked for")
    if plan.parity:
        fidelity = prove_import(
            plan.pair.mmproj,
            plan.reading,
            BundleFiles(llm=llms, vision={"fp32": vision.fp32, **vision.asked}),
            inputs,
            vision_limits=vision.limits,
            work=vision.fp32.parent,
            n_threads=default_n_threads(plan.pair.mmproj.trained.n_bytes),
            progress=report,
        )
    note_making(fidelity, vision)
    return fidelity


def _manifest(
    plan: _ImportPlan, files: Sequence[tuple[Role, str, Path]], fidelity: dict[str, Any], report: OnProgress
) -> Manifest:
    mmproj, llm = plan.pair.mmproj, plan.pair.llms[plan.default_gguf]
    shape = mmproj.shape(plan.reading)
    return Manifest(
        format_version=FORMAT_VERSION,
        name=plan.name,
        created_by=created_by(),
        source=Source(
            checkpoint=sanitize(f"{llm.path.name} + {mmproj.file.path.name}"),
            revision=f"mmproj sha256:{sha256(mmproj.file.path)}",
            layout=LAYOUTS[plan.reading],
        ),
        license=plan.license,
        files=described(files, report),
        defaults=Defaults(gguf=plan.default_gguf, vision=default_precision(plan.vision_types)),
        image=mmproj.image,
        image_tokens=image_token_range(shape.n_image_tokens, BEST),
        n_embd=shape.n_embd,
        prompt=plan.prompt,
        rating=plan.rating,
        fidelity=typed(fidelity),
    )
