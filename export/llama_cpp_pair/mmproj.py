"""Read a LLaVA-1.5 mmproj file: shape, preprocessing, tensors by canonical name.

Two readings of one file are offered, because they differ. ``trained`` is what the projector was trained behind, and
what PyTorch computes. ``llama.cpp`` is what the libmtmd of llama-cpp-python 0.3.36 computes (tools/mtmd/clip.cpp and
models/llava.cpp): where the file names no feature layer it runs one layer less than was stored (llama.cpp's issue
25817), and it puts the class token behind the patches, so that each patch gets its neighbour's position, the first
patch is lost and the class token's row comes last (issue 25814).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from aesedge.errors import CheckpointError
from aesedge.image.image_spec import ImageSpec, llava_spec

from ..vision.vision_builder import VisionShape

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..language.gguf_reading import GgufFile

Reading = Literal["trained", "llama.cpp"]
READINGS: tuple[Reading, ...] = ("trained", "llama.cpp")

FEATURE_LAYER_KEY = "clip.vision.feature_layer"
PROJECTOR_KEY = "clip.projector_type"
PROJECTOR = "mlp"
POSITIONS, POST_NORM = "v.position_embd.weight", "v.post_ln."
_AGAIN = "convert it again"

_FULL_DEPTH = {768: 12, 1024: 24, 1280: 32, 1664: 48}
"""Layers of OpenAI's and OpenCLIP's towers by their width."""

# What converters write although a LLaVA-1.5 does not use it: CLIP's text half.
_UNUSED = re.compile(r"^(t\.|text_projection|visual_projection|logit_scale)")

_OUTER = {
    "embeddings.class_embedding": "v.class_embd",
    "embeddings.patch_embedding": "v.patch_embd",
    "embeddings.position_embedding": "v.position_embd",
    "pre_layrnorm": "v.pre_ln",
    "post_layernorm": "v.post_ln",
    "linear_1": "mm.0",
    "linear_2": "mm.2",
}
_INNER = {
    **{f"self_attn.{kind}_proj": f"attn_{kind}" for kind in ("q", "k", "v", "out")},
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
_SWAPPED = {"mlp.fc1": "ffn_down", "mlp.fc2": "ffn_up"}
"""What files of LLaVA's own converter call the two linears of a layer's MLP."""


@dataclass(frozen=True)
class Mmproj:
    """A vision tower and a projector, checked and ready to be read."""

    file: GgufFile
    trained: VisionShape
    """What the model was trained with."""
    llama_cpp: VisionShape
    """What llama.cpp computes."""
    image: ImageSpec

    def shape(self, reading: Reading) -> VisionShape:
        """Return the shape of one reading."""
        return self.trained if reading == "trained" else self.llama_cpp

    def tensor(self, canonical: str) -> npt.NDArray[np.float32]:
        """Return a tensor by its canonical name (see :mod:`.layouts`), float32, in PyTorch's order of axes."""
        return self.file.float32(_spelled(self.file, canonical, self.trained.hidden))


def read_mmproj(file: GgufFile) -> Mmproj:
    """Check that all of a LLaVA-1.5 tower and projector is in an mmproj file, and nothing else.

    Raises:
        CheckpointError: it is of another kind of model, or a tensor is missing or of another shape.
    """
    if file.architecture != "clip":
        raise CheckpointError(
            f"{file.path}: holds the architecture {file.architecture!r}, an mmproj file holds 'clip'; give the file "
            "that llama.cpp takes as --mmproj"
        )
    _check_kind(file)
    trained = _read_shape(file)
    llama_cpp = replace(
        trained,
        n_layers=_feature_layer(file) or _n_stored(file) - 1,
        class_last=True,
        post_norm=f"{POST_NORM}weight" in file.tensors,
    )
    mmproj = Mmproj(file, trained, llama_cpp, _image_spec(file, trained.image_size))
    for shape in (trained, llama_cpp):
        _check_tensors(file, shape)
    return mmproj


def _check_kind(file: GgufFile) -> None:
    """Refuse every model that is not a LLaVA-1.5, by name."""
    has_mlp = "mm.0.weight" in file.tensors
    kind = file.get(PROJECTOR_KEY, str, "") or file.get("clip.vision.projector_type", str, PROJECTOR if has_mlp else "")
    if kind != PROJECTOR:
        what = f"the projector {kind!r}" if kind else "no projector"
        raise CheckpointError(f"{file.path}: has {what}; only LLaVA-1.5's two linears ({PROJECTOR!r}) can be imported")
    if not file.get("clip.has_vision_encoder", bool, True):
        raise CheckpointError(f"{file.path}: has no vision encoder; give the mmproj of a LLaVA-1.5")
    merge = file.get("clip.vision.mm_patch_merge_type", str, "flat")
    if merge != "flat" or file.get("clip.vision.image_grid_pinpoints", list, []):
        raise CheckpointError(f"{file.path}: the mmproj of a LLaVA-1.6, which cuts images in tiles; only 1.5 is read")
    if file.get("clip.use_silu", bool, False):
        raise CheckpointError(f"{file.path}: the tower's activation is SiLU; a LLaVA-1.5 has CLIP's GELU")


def _read_shape(file: GgufFile) -> VisionShape:
    hidden = _size(file, "embedding_length")
    shape = VisionShape(
        image_size=_size(file, "image_size"),
        patch_size=_size(file, "patch_size"),
        hidden=hidden,
        n_heads=_size(file, "attention.head_count"),
        n_layers=_feature_layer(file) or _trained_layers(_n_stored(file), hidden),
        intermediate=_intermediate(file, hidden),
        n_embd=_rows(file, "mm.2.weight"),
        layer_norm_eps=file.get("clip.vision.attention.layer_norm_epsilon", float),
        hidden_act="gelu" if file.get("clip.use_gelu", bool, False) else "quick_gelu",
        patch_bias="v.patch_embd.bias" in file.tensors,
    )
    if shape.hidden % shape.n_heads or shape.image_size % shape.patch_size:
        raise CheckpointError(
            f"{file.path}: {shape.n_heads} heads do not divide a width of {shape.hidden}, or patches of "
            f"{shape.patch_size} pixels an image of {shape.image_size}; {_AGAIN}"
        )
    return shape


def _size(file: GgufFile, key: str) -> int:
    value = int(file.get(f"clip.vision.{key}", int))
    if not 0 < value < 2**20:
        raise CheckpointError(f"{file.path}: the key 'clip.vision.{key}' is {value}; {_AGAIN}")
    return value


def _n_stored(file: GgufFile) -> int:
    """Return how many layers the file holds."""
    return _size(file, "block_count")


def _trained_layers(n_stored: int, hidden: int) -> int:
    """Return how many layers LLaVA's feature layer -2 runs, where the file does not say.

    LLaVA's own converter leaves the last layer out; a file with all layers of its tower holds one too many.
    """
    return n_stored - 1 if n_stored == _FULL_DEPTH.get(hidden) else n_stored


def _feature_layer(file: GgufFile) -> int:
    """Return how many layers the file says to run; 0 where it leaves that to LLaVA's default, -2.

    Raises:
        CheckpointError: several layers are joined, or there is no such layer.
    """
    layers = file.get(FEATURE_LAYER_KEY, list, []) or file.get("clip.vision.vision_feature_layer", list, [])
    if len(set(layers)) > 1:
        raise CheckpointError(f"{file.path}: joins the vision layers {layers}; a LLaVA-1.5 reads one")
    if not layers or layers[0] == -2:
        return 0
    if not 0 < layers[0] <= _n_stored(file):
        raise CheckpointError(
            f"{file.path}: the feature layer {layers[0]} is not one of the {_n_stored(file)} in it; {_AGAIN}"
        )
    return int(layers[0])


def _intermediate(file: GgufFile, hidden: int) -> int:
    """Return the MLP's inner width: fc1's rows, whatever the file calls fc1. Old files say 0 in the key for it."""
    return _rows(file, f"{_spelled(file, 'vision_tower.encoder.layers.0.mlp.fc1', hidden)}.weight")


def _rows(file: GgufFile, name: str) -> int:
    if name not in file.shapes:
        raise CheckpointError(f"{file.path}: the tensor '{name}' is missing; {_AGAIN}")
    return file.shapes[name][0]


def _image_spec(file: GgufFile, size: int) -> ImageSpec:
    """Return LLaVA's preprocessing with the file's mean and deviation."""
    triples = []
    for key in ("image_mean", "image_std"):
        values = file.get(f"clip.vision.{key}", list)
        if len(values) != 3 or not all(isinstance(v, float) and 0 <= v < 1 for v in values):
            raise CheckpointError(f"{file.path}: the key 'clip.vision.{key}' is {values}; {_AGAIN}")
        # The file holds float32: not more digits than it has.
        triples.append([float(str(np.float32(v))) for v in values])
    mean, std = triples
    if min(std) <= 0:
        raise CheckpointError(f"{file.path}: the key 'clip.vision.image_std' is {std}; {_AGAIN}")
    return llava_spec(size, mean, std)


def _check_tensors(file: GgufFile, shape: VisionShape) -> None:
    """Check that the tensors are those of a LLaVA-1.5, all of them and no others."""
    expected = {_spelled(file, name, shape.hidden): dims for name, dims in shape.tensor_shapes().items()}
    missing = [name for name in expected if name not in file.shapes]
    if missing:
        raise CheckpointError(
            f"{file.path}: not complete: {len(missing)} tensors are missing, the first is '{missing[0]}'; {_AGAIN}"
        )
    for name, dims in expected.items():
        if file.shapes[name] != dims:
            raise CheckpointError(
                f"{file.path}: '{name}' has the shape {list(file.shapes[name])}, its keys say {list(dims)}; {_AGAIN}"
            )
    later = re.compile(r"^v\.blk\.(\d+)\.")  # a layer after the selected one
    for name in file.shapes:
        layer = later.match(name)
        is_later = layer is not None and int(layer[1]) >= shape.n_layers
        if name not in expected and not is_later and not _UNUSED.match(name) and not name.startswith(POST_NORM):
            raise CheckpointError(
                f"{file.path}: the tensor '{name}' does not belong to a LLaVA-1.5 model; this cannot be imported"
            )


def _spelled(file: GgufFile, canonical: str, hidden: int) -> str:
    """Return llama.cpp's name of a tensor; fc1 is told from fc2 by its shape, as clip.cpp does."""
    part = canonical.removeprefix("vision_tower.").removeprefix("multi_modal_projector.")
    if not part.startswith("encoder.layers."):
        stem = next(stem for stem in _OUTER if part.startswith(stem))
        return _OUTER[stem] + part[len(stem) :]
    _, _, layer, inner = part.split(".", 3)
    stem = next(stem for stem in _INNER if inner.startswith(stem))
    down = file.shapes.get(f"v.blk.{layer}.ffn_down.weight", ())
    names = {**_INNER, **_SWAPPED} if down[1:] == (hidden,) else _INNER
    return f"v.blk.{layer}.{names[stem]}{inner[len(stem) :]}"
