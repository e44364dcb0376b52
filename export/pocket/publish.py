"""Turn pocket's checkpoint into the bundle inside the package.

    python -m aesedge_export.pocket.publish CHECKPOINT [--card MODEL_CARD.md] [--out aesedge/pocket]

The language model goes the way of every export; the vision graph is pocket's own, because its tower is no CLIP.
"""

from __future__ import annotations

import argparse
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aesedge_export.bundle_files import created_by, described, typed, write_manifest
from aesedge_export.language.checkpoint_source import CheckpointSource
from aesedge_export.language.language_files import language_files
from aesedge_export.parity.proof import prove
from aesedge_export.parity.proof_inputs import BundleFiles, Inputs
from aesedge_export.progress import silent
from aesedge_export.questions import default_rating
from aesedge_export.work_folder import check_target, work_folder

import aesedge
from aesedge.bundle.manifest import FORMAT_VERSION, Defaults, ImageTokens, Manifest, PromptSpec, Source
from aesedge.image import read_image
from aesedge.image.image_spec import ImageSpec
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import default_n_threads

from .crops import PAD_COLOUR
from .efficientnet import MEAN, STD
from .language import score_question
from .model import PocketCheckpoint, PocketReference, load_checkpoint
from .phrases import ATTRIBUTES
from .questions import CRITIQUE_QUESTION
from .tower import IMAGE_SIZE
from .train_language import WIDTH
from .vision_files import METHOD, N_IMAGE_TOKENS, write_fp32, write_int8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bundle.manifest import Role

OUT = Path(aesedge.__file__).parent / "pocket"
MADE_BY = "export/pocket"
"""What the manifest says that it was made from."""
GGUF_TYPES = ("Q8_0", "Q4_K_M")
LEAST_IMAGE_TOKENS = 16
LIMIT_BYTES = 30_000_000
"""What the package may carry."""
INT8_LIMITS, INT8_DRIFT = {"int8": {"min_cosine": 0.9}}, 0.5
"""An embedding has steps where a sentence changes, so that of two nearly equal judgements the cosine may be far from 1.
8 bits are therefore judged by what they do to scores: here at most so many points, more in the figures of the card."""


def publish(
    checkpoint: Path, out: Path = OUT, card: Path | None = None, *, types: Sequence[str] = GGUF_TYPES
) -> Manifest:
    """Export pocket; a bundle that is there is replaced when the new one is whole.

    Raises:
        ValueError: it is larger than the package may carry, or 8 bits change its scores.
        AesedgeError: it does not answer as PyTorch does, or cannot be written.
    """
    out = Path(out).absolute()
    check_target(out, overwrite=True)
    tower, language_model = load_checkpoint(checkpoint)
    source = PocketCheckpoint(checkpoint, language_model)
    image = ImageSpec(size=IMAGE_SIZE, mean=MEAN, std=STD, pad_color=cast("tuple[int, int, int]", PAD_COLOUR))
    prompt = PromptSpec(template="llava_v1", critique=CRITIQUE_QUESTION)
    rating = msgspec.structs.replace(
        default_rating(), question=score_question(), attributes={name: score_question(name) for name in ATTRIBUTES}
    )
    photos = [(path.name, read_image(path)) for path in SAMPLE_PHOTOS]
    n_threads = default_n_threads(1)
    with work_folder(out, overwrite=True) as folder:
        vision = {precision: folder / f"vision-{precision}.onnx" for precision in ("fp32", "int8")}
        write_fp32(tower, vision["fp32"])
        write_int8(vision["fp32"], vision["int8"], [photo for _, photo in photos], image)
        language = CheckpointSource(cast("Any", source), name="pocket")
        with language_files(language, types, folder, n_threads=n_threads, report=silent) as llm:
            fidelity = prove(
                cast("Any", source), BundleFiles(llm=llm.llm, vision=vision), Inputs(photos, image, prompt, rating),
                open_reference=partial(PocketReference, tower, language_model, n_threads), vision_limits=INT8_LIMITS,
                n_threads=n_threads,
            )  # fmt: skip
        drift = fidelity["vision"]["int8"]["max_score_drift"]
        if drift > INT8_DRIFT:
            raise ValueError(f"{out}: 8 bits move a score by {drift:.2f} points, {INT8_DRIFT} are allowed")
        files: list[tuple[Role, str, Path]] = [
            *(("vision", precision, path) for precision, path in vision.items()),
            *(("llm", gguf_type, path) for gguf_type, path in llm.llm.items()),
        ]
        if card is not None:
            shutil.copyfile(card, folder / "card.md")
            files.append(("card", "md", folder / "card.md"))
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            name="pocket",
            created_by=created_by(),
            source=Source(checkpoint=MADE_BY, revision="", layout="EfficientNet-Lite0, judgement, Llama"),
            license="Apache-2.0",
            files=described(files, silent),
            defaults=Defaults(gguf=types[0], vision="int8"),
            image=image,
            image_tokens=ImageTokens(min=LEAST_IMAGE_TOKENS, max=N_IMAGE_TOKENS, method=METHOD),
            n_embd=WIDTH,
            prompt=prompt,
            rating=rating,
            fidelity=typed(fidelity),
        )
        n_bytes = sum(f.n_bytes for f in manifest.files)
        if n_bytes > LIMIT_BYTES:
            raise ValueError(f"{out}: {n_bytes} bytes, the package may carry {LIMIT_BYTES}")
        return write_manifest(folder, manifest, loaded=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--card", type=Path, help="the model card, made by aesedge_export.pocket.card")
    parser.add_argument("--gguf", default=",".join(GGUF_TYPES), help="types, the default one first")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    manifest = publish(args.checkpoint, args.out, args.card, types=args.gguf.split(","))
    print(f"{args.out}: {sum(f.n_bytes for f in manifest.files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
