"""Time the vision graph in every precision at the size of CLIP ViT-L/14-336, against the fused fp32 graph.

    python tests/measure/measure_vision.py [--runs 11] [--threads N] [--keep FOLDER]

Random weights in LLaVA-1.5's exact shapes (23 layers, 1024 wide, projector to 4096), built without PyTorch. The graphs
take turns, so that what else the machine does falls on all of them; medians are shown. Not in the times: reading and
resizing the photo, loading the graph. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge_export.random_weights.shapes import SHAPES
from aesedge_export.random_weights.tower import RandomTower
from aesedge_export.vision.vision_builder import write_from_tensors
from aesedge_export.vision.vision_precision import optimize, write_fp16, write_int8

from aesedge.image import preprocess, read_image
from aesedge.samples import SAMPLE_PHOTOS
from aesedge.system.machine import default_n_threads
from aesedge.vision.providers import runtime_build
from aesedge.vision.tower import VisionTower

if TYPE_CHECKING:
    import numpy as np

TOWER = RandomTower(SHAPES["llava-1.5-7b"], seed=0)


def make(folder: Path, pixels: list[np.ndarray]) -> dict[str, Path]:
    """Write the graphs and say what int8 and fp16 cost in accuracy."""
    paths = {name: folder / f"{name}.onnx" for name in ("raw", "fp32", "fp16", "int8")}
    write_from_tensors(TOWER.shape, TOWER.tensor, paths["raw"], facts={})
    optimize(paths["raw"], paths["fp32"])
    half, byte = write_fp16(paths["fp32"], paths["fp16"], pixels), write_int8(paths["fp32"], paths["int8"], pixels)
    print(f"fp16: least cosine of a row to fp32 {half.min_cosine:.6f}, largest value {half.largest:.0f}")
    print(
        f"int8: least cosine of a row to fp32 {byte.min_cosine:.6f}, linears in fp32: {byte.layers_in_fp32 or 'none'}"
    )
    return paths


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--threads", type=int, default=default_n_threads(10**9))
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    pixels = [preprocess(read_image(path), TOWER.image) for path in SAMPLE_PHOTOS]
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        paths = make(folder, pixels)
        n_bytes = {name: path.stat().st_size for name, path in paths.items()}
        towers = {n: VisionTower(path, device="cpu", n_threads=args.threads) for n, path in paths.items()}
        times: dict[str, list[float]] = {name: [] for name in towers}
        for i in range(args.runs + 1):
            for name, tower in towers.items():
                started = time.perf_counter()
                tower.encode(pixels[i % len(pixels)])
                if i:  # the first is to warm up
                    times[name].append(time.perf_counter() - started)
        for tower in towers.values():
            tower.close()
    medians = {name: statistics.median(of_one) for name, of_one in times.items()}
    print(f"{args.threads} threads, onnxruntime {runtime_build().version}, median of {args.runs} (least, greatest)")
    for name, of_one in times.items():
        speed = medians["fp32"] / medians[name]
        print(
            f"{name:5}{n_bytes[name] / 1e6:8.0f} MB{medians[name]:8.3f} s  ({min(of_one):.3f}, {max(of_one):.3f})"
            f"{speed:6.2f} times as fast as fp32"
        )
    print(json.dumps({"threads": args.threads, "seconds": times, "bytes": n_bytes}))


if __name__ == "__main__":
    main()
