"""Compare imported vision graphs with libmtmd on the user's own mmproj file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aesedge.errors import InferenceError, ParityError
from aesedge.image import preprocess

from ..parity.self_proof import compare_files, not_proven
from ..parity.stages import Stage, as_records, compare_rows
from ..parity.vision_proof import encode_all
from .mmproj import PROJECTOR_KEY
from .mmproj_copy import write_as_trained
from .mtmd_process import MtmdProcess, mtmd_version
from .pair import weight_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from aesedge.image.image_spec import ImageSpec

    from ..parity.proof_inputs import BundleFiles, Inputs
    from ..parity.stages import FloatArray
    from ..progress import OnProgress
    from .mmproj import Mmproj, Reading

AGAINST_LIBMTMD = "image embeddings against libmtmd"
NOTES: dict[Reading, str] = {
    "trained": "the vision graph computes what the model was trained with; llama.cpp itself puts the class token last "
    "and may leave out a layer (its issues 25814 and 25817), so its answers differ",
    "llama.cpp": "the vision graph computes what llama.cpp does with this file, not what the model was trained with",
}
_MISSING = "libmtmd, llama.cpp's own encoder, is not installed"
LLAMA_CPP_AS_IT_IS = "llama.cpp's own image embeddings"

# ggml rounds the other factor of each product to the weights' own precision, and so differs from float32 by the more,
# the coarser they are. Measured with random weights, alike on tiny towers and at ViT-L/336 size: F16 and F32 0.999999
# and 8e-4, BF16 0.99999 and 4e-3, Q8_0 0.9999 and 1.3e-2. A wrong layer or position gives 0.9 and less.
_LIMITS = {
    "F32": {"min_cosine": 0.9999, "max_relative_diff": 5e-3},
    "F16": {"min_cosine": 0.9999, "max_relative_diff": 5e-3},
    "BF16": {"min_cosine": 0.9995, "max_relative_diff": 2e-2},
}
_LIMITS_QUANTIZED = {"min_cosine": 0.995, "max_relative_diff": 1e-1}


def limits(mmproj: Mmproj) -> dict[str, float]:
    """Return how far the fp32 graph of a file may be from libmtmd."""
    return dict(_LIMITS.get(weight_type(mmproj.file), _LIMITS_QUANTIZED))


def pixel_levels(pixels: FloatArray, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    """Return the picture that pixels were made of.

    Args:
        pixels: float32 [1, 3, size, size], normalised.
        spec: how they were.

    Returns:
        RGB levels, uint8 [size, size, 3].
    """
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    levels = (pixels[0].transpose(1, 2, 0) * std + mean) * np.float32(255)
    return np.rint(levels).astype(np.uint8)


def prove_import(
    mmproj: Mmproj,
    reading: Reading,
    files: BundleFiles,
    inputs: Inputs,
    *,
    vision_limits: Mapping[str, Mapping[str, float]],
    work: Path,
    n_threads: int,
    progress: OnProgress,
) -> dict[str, Any]:
    """Compare a fresh bundle's fp32 graph with libmtmd, and its other files with its most precise ones.

    Args:
        mmproj: the file that the graphs were made of.
        reading: how it was read.
        files: the bundle's, the fp32 graph among them.
        inputs: photos, and the questions of the manifest.
        vision_limits: precision to the limits that its graph was made to hold to fp32.
        work: a folder for a copy of the mmproj file, which is removed again.
        n_threads: CPU threads.
        progress: called with the name of a step and the share of it that is done.

    Returns:
        ``fidelity`` of the manifest, plain JSON values; ``checked`` is false where libmtmd is not installed.

    Raises:
        ParityError: a figure is beyond its limit, or libmtmd refuses the file.
    """
    if len(files.llm) + len(files.vision) > 2:
        fidelity = compare_files(
            files, inputs, reason=_MISSING, vision_limits=vision_limits, n_threads=n_threads, progress=progress
        )
    else:  # one file of each kind: nothing to compare within the bundle
        fidelity = {**not_proven(_MISSING), "photos": [name for name, _ in inputs.photos], "stages": []}
    reference = mtmd_version()
    if not reference:
        return fidelity
    progress("parity: libmtmd", 0.0)
    pixels = [preprocess(photo, inputs.image) for _, photo in inputs.photos]
    rows = encode_all(files.vision["fp32"], pixels, n_threads)
    progress("parity: libmtmd", 0.3)
    pictures = np.stack([pixel_levels(of_one, inputs.image) for of_one in pixels])
    stages = _stages(mmproj, reading, rows, pictures, work, n_threads)
    progress("parity: libmtmd", 1.0)
    del fidelity["reason"]
    return {
        **fidelity,
        "checked": True,
        "reference": reference,
        "note": NOTES[reading],
        "stages": as_records(stages) + fidelity["stages"],
    }


def _stages(
    mmproj: Mmproj,
    reading: Reading,
    rows: Sequence[FloatArray],
    pictures: npt.NDArray[np.uint8],
    work: Path,
    n_threads: int,
) -> list[Stage]:
    """Return the stages against libmtmd, the first one checked; the second says how far llama.cpp is from training."""
    stage = Stage(AGAINST_LIBMTMD, limits(mmproj))
    if reading == "llama.cpp":
        theirs = _encode(mmproj.file.path, mmproj, pictures, n_threads)
        _compare(stage, rows, theirs)
        return [stage]
    theirs = _encode_as_trained(mmproj, pictures, work, n_threads)
    # libmtmd leaves out the first patch's row and ends with the class token's (see .mmproj_copy).
    _compare(stage, [of_one[1:] for of_one in rows], theirs[:, :-1])
    if PROJECTOR_KEY not in mmproj.file.values:  # a file of 2023, which llama.cpp does not read any more
        return [stage]
    as_it_is = Stage(LLAMA_CPP_AS_IT_IS, {})
    for our, their in zip(rows, _encode(mmproj.file.path, mmproj, pictures, n_threads), strict=True):
        as_it_is.add(min_cosine=compare_rows(our, their)["min_cosine"])
    return [stage, as_it_is]


def _compare(stage: Stage, ours: Sequence[FloatArray], theirs: npt.NDArray[np.float32]) -> None:
    for our, their in zip(ours, theirs, strict=True):
        stage.add(**compare_rows(our, their))
    stage.check()
    stage.figures["n_rows"] = sum(map(len, ours))


def _encode_as_trained(
    mmproj: Mmproj, pictures: npt.NDArray[np.uint8], work: Path, n_threads: int
) -> npt.NDArray[np.float32]:
    copy = work / "as-trained.gguf"
    try:
        write_as_trained(mmproj, copy)
        return _encode(copy, mmproj, pictures, n_threads)
    finally:
        copy.unlink(missing_ok=True)


def _encode(path: Path, mmproj: Mmproj, pictures: npt.NDArray[np.uint8], n_threads: int) -> npt.NDArray[np.float32]:
    """Return libmtmd's embeddings of pictures, by a file of the mmproj's shape."""
    try:
        with MtmdProcess(path, n_threads=n_threads) as reference:
            return reference.encode(pictures, mmproj.trained.n_embd)
    except InferenceError as error:
        raise ParityError(f"{error}; --no-parity imports without comparing") from None
