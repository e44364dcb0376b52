"""Tiny real models made in code, in well under a second: a Llama GGUF, an ONNX tower, a bundle of both.

Their weights are random, so their text means nothing; everything else (architecture, tokenizer, KV cache, graph)
is what the big ones have.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from aesedge.manifest import (
    MANIFEST_NAME,
    BundleFile,
    Defaults,
    ImageSpec,
    ImageTokens,
    Manifest,
    PromptSpec,
    RatingSpec,
    Source,
    format_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

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


def write_gguf(path: Path, *, seed: int = 0, n_embd: int = N_EMBD, architecture: str = "llama") -> Path:
    """Write a random Llama of two layers as GGUF, float32."""
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
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
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
        w.add_tensor(name, (rng.standard_normal(shape) * scale).astype(np.float32))

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
