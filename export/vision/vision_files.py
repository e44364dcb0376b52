"""Write the vision graphs of a bundle in the precisions that were asked for."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from aesedge.image import preprocess
from aesedge.system.machine import trim_heap

from ..plan import BYTES_PER_WEIGHT
from .reduction import NONE, write_reduced
from .vision_precision import optimize, write_fp16, write_int8, write_int8_unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from aesedge.image.image_spec import ImageSpec

    from ..progress import OnProgress


@dataclass(frozen=True)
class VisionFiles:
    """What was written."""

    asked: dict[str, Path]
    """Precision to graph, in the order that was asked for."""
    fp32: Path
    """The fp32 graph, asked for or not; not asked for, it is gone after the block."""
    made: dict[str, dict[str, Any]]
    """Precision to what its making measured: see ``Fp16Report`` and ``Int8Report``."""

    @property
    def limits(self) -> dict[str, dict[str, float]]:
        """Precision to the least cosine of a row that it was made to hold, where it was."""
        return {precision: {"min_cosine": made["limit"]} for precision, made in self.made.items() if "limit" in made}


def vision_bytes(n_parameters: int, asked: Sequence[str]) -> int:
    """Return how much room the graphs take while they are made: fp32 twice, the second that the others come from."""
    return int(n_parameters * (4.0 + sum(BYTES_PER_WEIGHT[precision] for precision in {"fp32", *asked})))


@contextmanager
def vision_files(
    write_raw: Callable[[Path], object],
    asked: Sequence[str],
    folder: Path,
    *,
    photos: Sequence[Image.Image],
    image: ImageSpec,
    reduction: str = NONE,
    calibrate: bool = True,
    report: OnProgress,
) -> Iterator[VisionFiles]:
    """Write the graphs.

    Args:
        write_raw: writes the fp32 graph as PyTorch or an mmproj file has it.
        asked: precisions.
        folder: where they are written.
        photos: RGB images that fp16 and int8 are calibrated and measured on.
        image: their preprocessing.
        reduction: how image tokens are reduced, see :data:`.reduction.METHODS`.
        calibrate: whether int8 is calibrated and measured; it is most of the work, and of random weights it says
            nothing.
        report: called with step and share done.

    Yields:
        The graphs.

    Raises:
        ParityError: a precision does not hold its limit.
    """
    paths = {precision: folder / f"vision-{precision}.onnx" for precision in ("fp32", *asked)}
    raw, plain = folder / "vision-raw.onnx", folder / "vision-plain.onnx"
    report("vision fp32", 0.0)
    write_raw(raw)
    trim_heap()
    optimize(raw, plain)
    raw.unlink()
    trim_heap()
    report("vision fp32", 1.0)
    pixels = [preprocess(photo, image) for photo in photos] if set(asked) - {"fp32"} else []
    made = {}
    if "fp16" in asked:
        report("vision fp16", 0.0)
        made["fp16"] = asdict(write_fp16(plain, paths["fp16"], pixels, reduction=reduction))
        trim_heap()
        report("vision fp16", 1.0)
    if "int8" in asked:
        report("vision int8", 0.0)
        if calibrate:
            made["int8"] = asdict(
                write_int8(
                    plain,
                    paths["int8"],
                    pixels,
                    reduction=reduction,
                    progress=lambda share: report("vision int8", share),
                )
            )
        else:
            write_int8_unseen(plain, paths["int8"], reduction=reduction)
            made["int8"] = {"layers_in_fp32": []}
        trim_heap()
        report("vision int8", 1.0)
    if reduction == NONE:
        plain.replace(paths["fp32"])
    else:
        write_reduced(plain, paths["fp32"], reduction)
        plain.unlink()
    yield VisionFiles({precision: paths[precision] for precision in asked}, paths["fp32"], made)
    if "fp32" not in asked:
        paths["fp32"].unlink()


def note_making(fidelity: dict[str, Any], files: VisionFiles) -> None:
    """Add what was measured while the graphs were made to a manifest's ``fidelity``.

    Where a graph was compared with a reference, those figures stay, and only what stays in fp32 is added.
    """
    records = fidelity.setdefault("vision", {})
    for precision, made in files.made.items():
        if precision in records:
            records[precision] |= {key: value for key, value in made.items() if key.endswith("_in_fp32")}
        else:
            records[precision] = {"against": "fp32", **made, "limits": {"min_cosine": made["limit"]}}
