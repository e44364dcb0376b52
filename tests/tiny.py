"""Tiny real models made in code, in well under a second: a Llama GGUF, an ONNX tower, a bundle of both.

Their weights are random, so their text means nothing; everything else (architecture, tokenizer, KV cache, graph)
is what the big ones have.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import gguf
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aesedge.bundle.manifest import (
    MANIFEST_NAME,
    BundleFile,
    Defaults,
    ImageTokens,
    Manifest,
    PromptSpec,
    RatingSpec,
    Source,
    format_manifest,
)
from aesedge.image.image_spec import ImageSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aesedge.bundle.fidelity import Fidelity

N_EMBD, N_FF, N_HEAD, N_LAYER, N_CTX = 64, 128, 2, 2, 1024
IMAGE_SIZE, PATCH_SIZE = 32, 8
N_IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
BOS, EOS = 1, 2
WORDS = ["▁High", "▁Med", "ium", "▁Low", "▁A", "▁B", "▁C", "▁USER", "▁ASSISTANT", "▁the", "▁image"]
CHARACTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;?!'()0123456789"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
OPTIONS = "Choose one from the following options:\nA) High\nB) Medium\nC) Low\nYou should output a correct option."


def vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Return tokens, scores and types of a SentencePiece BPE with byte fallback."""
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    # BPE reaches a word through its beginnings, so each of them is a token too.
    merges = [word[:n] for word in WORDS for n in range(2, len(word) + 1)]
    merges += ["\u2581" * n for n in (2, 4)]
    pieces = list(dict.fromkeys([*merges, *CHARACTERS]))
    tokens = [*special, *byte_tokens, *pieces]
    scores = [0.0] * (3 + 256) + [-float(i) for i in range(len(pieces))]
    kind = gguf.TokenType
    types = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256 + [kind.NORMAL] * len(pieces)
    return tokens, scores, [int(t) for t in types]


def write_gguf(
    path: Path, *, seed: int = 0, n_embd: int = N_EMBD, architecture: str = "llama", half: bool = False
) -> Path:
    """Write a random Llama of two layers as GGUF, float32, or with matrices in half precision."""
    rng = np.random.default_rng(seed)
    tokens, scores, types = vocabulary()
    w = gguf.GGUFWriter(path, architecture)
    w.add_name("tiny")
    w.add_context_length(N_CTX)
    w.add_embedding_length(n_embd)
    w.add_block_count(N_LAYER)
    w.add_feed_forward_length(N_FF)
    w.add_head_count(N_HEAD)
    w.add_head_count_kv(N_HEAD)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(n_embd // N_HEAD)
    w.add_vocab_size(len(tokens))
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    w.add_tokenizer_model("llama")
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(BOS)
    w.add_eos_token_id(EOS)
    w.add_unk_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_space_prefix(True)

    def add(name: str, *shape: int, scale: float) -> None:
        w.add_tensor(name, (rng.standard_normal(shape) * scale).astype(np.float16 if half else np.float32))

    # Scales that keep activations and logits spread, so that greedy text depends on everything before it.
    inner = 1.5 / np.sqrt(n_embd)
    add("token_embd.weight", len(tokens), n_embd, scale=1.0)
    for i in range(N_LAYER):
        w.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(n_embd, np.float32))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(n_embd, np.float32))
        for name in ("q", "k", "v", "output"):
            add(f"blk.{i}.attn_{name}.weight", n_embd, n_embd, scale=inner)
        add(f"blk.{i}.ffn_gate.weight", N_FF, n_embd, scale=inner)
        add(f"blk.{i}.ffn_up.weight", N_FF, n_embd, scale=inner)
        add(f"blk.{i}.ffn_down.weight", n_embd, N_FF, scale=inner)
    w.add_tensor("output_norm.weight", np.ones(n_embd, np.float32))
    add("output.weight", len(tokens), n_embd, scale=2.0 * inner)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def token_embedding_table(path: Path) -> np.ndarray:
    """Return the token-embedding table of a GGUF written above, float32 [n_vocab, n_embd]."""
    tensor = next(t for t in gguf.GGUFReader(path).tensors if t.name == "token_embd.weight")
    return np.array(tensor.data, np.float32)


def write_tower(path: Path, *, seed: int = 0, n_embd: int = N_EMBD) -> Path:
    """Write a tower of one patch convolution and a projection as ONNX."""
    rng = np.random.default_rng(seed)
    n_features = 48
    conv = (rng.standard_normal((n_features, 3, PATCH_SIZE, PATCH_SIZE)) / (PATCH_SIZE * 1.7)).astype(np.float32)
    projection = (rng.standard_normal((n_features, n_embd)) / np.sqrt(n_features)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixel_values", "conv"], ["patches"], strides=[PATCH_SIZE, PATCH_SIZE]),
        helper.make_node("Reshape", ["patches", "shape"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["features"], perm=[0, 2, 1]),
        helper.make_node("Tanh", ["features"], ["image_features"]),
        helper.make_node("MatMul", ["image_features", "projection"], ["image_embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_tower",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
        [helper.make_tensor_value_info("image_embeddings", TensorProto.FLOAT, ["batch", N_IMAGE_TOKENS, n_embd])],
        [
            numpy_helper.from_array(conv, "conv"),
            numpy_helper.from_array(projection, "projection"),
            numpy_helper.from_array(np.array([0, n_features, -1], np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def write_altered_tower(path: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Write a tower whose graph was changed."""
    model = onnx.load(write_tower(path))
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def write_bundle(folder: Path, *, name: str = "tiny", seed: int = 0, **changes: object) -> Path:
    """Write a whole bundle: two GGUF types (both float32 inside), one vision graph, the manifest."""
    folder.mkdir(parents=True)
    llm = write_gguf(folder / "llm-f32.gguf", seed=seed)
    other = write_gguf(folder / "llm-other.gguf", seed=seed + 1)
    tower = write_tower(folder / "vision-fp32.onnx", seed=seed)
    files = [
        described(tower, "vision", "fp32"),
        described(llm, "llm", "F32"),
        described(other, "llm", "Q4_K_M"),
    ]
    write_manifest(folder, files, name=name, **changes)
    return folder


def described(path: Path, role: str, type_: str) -> BundleFile:
    """Return the manifest's record of a file."""
    data = path.read_bytes()
    return BundleFile(path=path.name, role=role, type=type_, n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def write_manifest(folder: Path, files: list[BundleFile], *, name: str = "tiny", **changes: object) -> None:
    """Write a manifest over files that are there already."""
    asked = "How is the {} of this image? " + OPTIONS
    fields: dict[str, object] = {
        "format_version": 1,
        "name": name,
        "created_by": "tests",
        "source": Source(checkpoint="random"),
        "license": "Apache-2.0",
        "files": files,
        "defaults": Defaults(gguf=next(f.type for f in files if f.role == "llm"), vision="fp32"),
        "image": ImageSpec(size=IMAGE_SIZE, mean=MEAN, std=STD, pad_color=(122, 116, 104)),
        "image_tokens": ImageTokens(min=N_IMAGE_TOKENS, max=N_IMAGE_TOKENS),
        "n_embd": N_EMBD,
        "prompt": PromptSpec(
            template="llava_v1", critique="Describe the aesthetic experience of this image in detail."
        ),
        "rating": RatingSpec(
            question=asked.format("aesthetic quality"),
            attributes={a: asked.format(a) for a in ("technical quality", "color and light", "composition", "content")},
            labels={"high": ["High", "A"], "medium": ["Medium", "B"], "low": ["Low", "C"]},
            weights={"high": 1.0, "medium": 0.5, "low": 0.0},
        ),
    }
    (folder / MANIFEST_NAME).write_bytes(format_manifest(Manifest(**{**fields, **changes})))


def plain(fidelity: Fidelity) -> dict[str, Any]:
    """Return figures as they stand in a manifest's JSON."""
    found: dict[str, Any] = msgspec.to_builtins(fidelity)
    return found


TOWER = {"hidden": 64, "n_heads": 2, "n_layers": 3, "intermediate": 96}
"""A CLIP tower of the kind that LLaVA has, too small to mean anything."""


def tower_tensors(*, seed: int = 0, n_embd: int = N_EMBD, n_layers: int = TOWER["n_layers"]) -> dict[str, np.ndarray]:
    """Return random tensors of a CLIP tower and a projector under their canonical names, float32."""
    rng = np.random.default_rng(seed)
    hidden, inner = TOWER["hidden"], TOWER["intermediate"]
    shapes: dict[str, tuple[int, ...]] = {
        "vision_tower.embeddings.class_embedding": (hidden,),
        "vision_tower.embeddings.patch_embedding.weight": (hidden, 3, PATCH_SIZE, PATCH_SIZE),
        "vision_tower.embeddings.position_embedding.weight": (N_IMAGE_TOKENS + 1, hidden),
        "multi_modal_projector.linear_1.weight": (n_embd, hidden),
        "multi_modal_projector.linear_1.bias": (n_embd,),
        "multi_modal_projector.linear_2.weight": (n_embd, n_embd),
        "multi_modal_projector.linear_2.bias": (n_embd,),
    }
    norms = ["vision_tower.pre_layrnorm"]
    for i in range(n_layers):
        layer = f"vision_tower.encoder.layers.{i}"
        norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
        linears = {f"self_attn.{name}_proj": (hidden, hidden) for name in ("q", "k", "v", "out")}
        for name, shape in {**linears, "mlp.fc1": (inner, hidden), "mlp.fc2": (hidden, inner)}.items():
            shapes[f"{layer}.{name}.weight"] = shape
            shapes[f"{layer}.{name}.bias"] = shape[:1]
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (hidden,)

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        noise = rng.standard_normal(shape)
        if name.endswith(".bias"):
            return 0.05 * noise
        if "norm" in name:
            return 1 + 0.2 * noise
        return noise / np.sqrt(np.prod(shape[1:]) or 1)

    return {name: values(name, shape).astype(np.float32) for name, shape in shapes.items()}


def write_mmproj(
    path: Path,
    tensors: dict[str, np.ndarray],
    *,
    legacy: bool = True,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F16,
    keys: dict[str, object] | None = None,
) -> Path:
    """Write a tower and a projector as llama.cpp's converters do.

    Args:
        path: the file.
        tensors: canonical name to values; the layers that are in it are the layers that are written.
        legacy: whether fc1 and fc2 are called ffn_down and ffn_up, as LLaVA's own converter does.
        kind: the type of the matrices; those that it does not fit, and the rest, are float32.
        keys: keys to set otherwise; None leaves one out.
    """
    width, n_positions = "vision_tower.embeddings.patch_embedding.weight", "vision_tower.embeddings.position_embedding"
    patches = tensors[width]
    layers = {name.split(".")[3] for name in tensors if name.startswith("vision_tower.encoder.")}
    wanted: dict[str, object] = {
        "clip.has_text_encoder": False,
        "clip.has_vision_encoder": True,
        "clip.has_llava_projector": True,
        "clip.projector_type": "mlp",
        "clip.use_gelu": False,
        "clip.vision.image_size": int(np.sqrt(len(tensors[f"{n_positions}.weight"]) - 1)) * patches.shape[-1],
        "clip.vision.patch_size": patches.shape[-1],
        "clip.vision.embedding_length": patches.shape[0],
        "clip.vision.feed_forward_length": len(tensors["vision_tower.encoder.layers.0.mlp.fc1.weight"]),
        "clip.vision.projection_dim": 32,
        "clip.vision.attention.head_count": 2,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.block_count": len(layers),
        "clip.vision.image_mean": list(MEAN),
        "clip.vision.image_std": list(STD),
        **(keys or {}),
    }
    w = gguf.GGUFWriter(path, "clip")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for key, value in wanted.items():
        if isinstance(value, bool):
            w.add_bool(key, value)
        elif isinstance(value, int):
            w.add_uint32(key, value)
        elif isinstance(value, float):
            w.add_float32(key, value)
        elif isinstance(value, str):
            w.add_string(key, value)
        elif isinstance(value, list):
            w.add_array(key, value)
    for name, values in tensors.items():
        is_matrix = values.ndim > 1 and (values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 or values.ndim == 4)
        # ggml's convolution wants F16 patches whatever the rest is.
        stored = (gguf.GGMLQuantizationType.F16 if values.ndim == 4 else kind) if is_matrix else None
        spelled = mmproj_name(name, legacy=legacy)
        if stored in {None, gguf.GGMLQuantizationType.F32}:
            w.add_tensor(spelled, values)
        else:
            w.add_tensor(spelled, gguf.quantize(values, stored), raw_dtype=stored)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return path


def mmproj_name(canonical: str, *, legacy: bool = True) -> str:
    """Return what llama.cpp's converters call a tensor of the tower or the projector; other names stay."""
    fc1, fc2 = ("ffn_down", "ffn_up") if legacy else ("ffn_up", "ffn_down")
    name = canonical
    for theirs, ours in (
        ("vision_tower.encoder.layers.", "v.blk."),
        ("vision_tower.embeddings.class_embedding", "v.class_embd"),
        ("vision_tower.embeddings.patch_embedding", "v.patch_embd"),
        ("vision_tower.embeddings.position_embedding", "v.position_embd"),
        ("vision_tower.pre_layrnorm", "v.pre_ln"),
        ("vision_tower.post_layernorm", "v.post_ln"),
        ("multi_modal_projector.linear_1", "mm.0"),
        ("multi_modal_projector.linear_2", "mm.2"),
        ("mlp.fc1", fc1),
        ("mlp.fc2", fc2),
        ("layer_norm", "ln"),
        ("self_attn.", "attn_"),
        ("_proj.", "."),
    ):
        name = name.replace(theirs, ours)
    return name
