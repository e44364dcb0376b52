"""Turn pocket's checkpoint into the bundle inside the package, with the export that everybody uses.

    python -m aesedge_export.pocket.publish CHECKPOINT [--card MODEL_CARD.md] [--out aesedge/pocket]

It knows pocket's questions and licence; it does not know how the checkpoint was trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec
from aesedge_export import export_checkpoint
from aesedge_export.questions import default_rating

import aesedge
from aesedge.manifest import Manifest, PromptSpec

from .language import SCORED, score_question
from .questions import CRITIQUE_QUESTION

OUT = Path(aesedge.__file__).parent / "pocket"
MADE_BY = "export/pocket"
"""What the manifest says that it was made from."""
GGUF_TYPES = ("Q8_0", "Q4_K_M")
VISION_TYPES = ("fp32",)
LIMIT_BYTES = 25_000_000
"""What the package may carry."""


def publish(checkpoint: Path, out: Path = OUT, card: Path | None = None) -> Manifest:
    """Export pocket; a bundle that is there is replaced when the new one is whole.

    Raises:
        ValueError: it is larger than the package may carry.
        AesedgeError: see :func:`aesedge_export.export_checkpoint`.
    """
    overall, *attributes = SCORED
    manifest = export_checkpoint(
        checkpoint,
        out,
        name="pocket",
        source_name=MADE_BY,  # not the folder's, which is a working title
        gguf_types=GGUF_TYPES,
        vision_types=VISION_TYPES,
        default_gguf="Q8_0",
        license="Apache-2.0",
        prompt=PromptSpec(template="llava_v1", critique=CRITIQUE_QUESTION),
        rating=msgspec.structs.replace(
            default_rating(),
            question=score_question(overall),
            attributes={name: score_question(name) for name in attributes},
        ),
        card=card,
        overwrite=True,
    )
    n_bytes = sum(f.n_bytes for f in manifest.files)
    if n_bytes > LIMIT_BYTES:
        raise ValueError(f"{out}: {n_bytes} bytes, the package may carry {LIMIT_BYTES}")
    return manifest


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--card", type=Path, help="the model card, made by aesedge_export.pocket.card")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    manifest = publish(args.checkpoint, args.out, args.card)
    print(f"{args.out}: {sum(f.n_bytes for f in manifest.files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
