"""Make a bundle of random weights from the command line.

    python -m aesedge_export.random_weights OUT --shape llava-1.5-7b --gguf q4_k_m --vision int8,fp32 [--mmproj]

A custom shape is given as ``name:n_embd=2048,n_ff=5632,n_head=32,n_layer=22,tower.n_layers=11``; what is not
stated is as in LLaVA-1.5 7B.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.errors import AesedgeError
from aesedge.system.byte_sizes import size_text

from ..progress_display import display_steps

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m aesedge_export.random_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", type=Path, help="the bundle's folder")
    parser.add_argument("--shape", required=True, help="llava-1.5-7b, llava-1.5-13b, pocket, or name:key=value,...")
    parser.add_argument("--name", help="the bundle's name; by default the shape's with -random behind it")
    parser.add_argument("--gguf", default="q4_k_m", help="quantization types, with commas between")
    parser.add_argument("--vision", default="int8", help="precisions of the vision graph, with commas between")
    parser.add_argument("--mmproj", action="store_true", help="write the same tower for llama.cpp too")
    parser.add_argument("--seed", type=int, default=0, help="another number gives other weights")
    parser.add_argument("--overwrite", action="store_true", help="replace another bundle that is there")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    options = parser.parse_args(arguments)
    try:
        from . import write_shape

        with display_steps(quiet=options.quiet) as report:
            made = write_shape(
                options.shape,
                options.out,
                name=options.name,
                gguf_types=options.gguf.split(","),
                vision_types=options.vision.split(","),
                mmproj=options.mmproj,
                seed=options.seed,
                overwrite=options.overwrite,
                progress=report,
            )
    except AesedgeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    n_bytes = sum(file.n_bytes for file in made.files)
    print(f"{options.out}: {made.name}, {size_text(n_bytes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
