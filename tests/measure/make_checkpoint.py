"""Write a checkpoint of full size with random weights, in the original LLaVA layout: for export's memory and speed.

    python tests/measure/make_checkpoint.py OUT [--size 7b|13b] [--layers N] [--vocab tokenizer.model|vocabulary.gguf]

Shapes, names, dtype (bfloat16), shards and configuration are those of LLaVA-1.5; 7b takes 14.1 GB. The head prefers one
successor for every token, so that the likeliest token is clear, as in trained models; the text means nothing. Without
``--vocab`` the 32,000 pieces are made up.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import product
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2 as spm

SIZES = {"7b": (4096, 11008, 32, 32), "13b": (5120, 13824, 40, 40)}  # hidden, intermediate, layers, heads
N_VOCAB = 32000
SHARD_BYTES = 2 * 10**9
VISION = {"hidden": 1024, "intermediate": 4096, "layers": 24, "image": 336, "patch": 14}
# Of the successor's logit among noise of standard deviation 1.3 over 32,000 tokens: about 8 against 5.5.
SUCCESSOR = 0.0025


def shapes(size: str, n_layers: int | None) -> dict[str, tuple[int, ...]]:
    """Return every tensor of the checkpoint, in file order."""
    width, inner, layers, _ = SIZES[size]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (N_VOCAB, width)}
    for i in range(n_layers or layers):
        layer = f"model.layers.{i}"
        for name in ("q", "k", "v", "o"):
            found[f"{layer}.self_attn.{name}_proj.weight"] = (width, width)
        found[f"{layer}.mlp.gate_proj.weight"] = found[f"{layer}.mlp.up_proj.weight"] = (inner, width)
        found[f"{layer}.mlp.down_proj.weight"] = (width, inner)
        found[f"{layer}.input_layernorm.weight"] = found[f"{layer}.post_attention_layernorm.weight"] = (width,)
    found["model.norm.weight"] = (width,)
    found["model.mm_projector.0.weight"], found["model.mm_projector.0.bias"] = (width, VISION["hidden"]), (width,)
    found["model.mm_projector.2.weight"], found["model.mm_projector.2.bias"] = (width, width), (width,)
    found |= {f"model.vision_tower.vision_tower.vision_model.{name}": shape for name, shape in tower_shapes().items()}
    found["lm_head.weight"] = (N_VOCAB, width)
    return found


def tower_shapes() -> dict[str, tuple[int, ...]]:
    """Return the tensors of CLIP ViT-L/14-336."""
    width, inner, patch = VISION["hidden"], VISION["intermediate"], VISION["patch"]
    found: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "embeddings.position_embedding.weight": ((VISION["image"] // patch) ** 2 + 1, width),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    for i in range(VISION["layers"]):
        layer = f"encoder.layers.{i}"
        norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
        linears = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
        for name, shape in {**linears, "mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}.items():
            found[f"{layer}.{name}.weight"], found[f"{layer}.{name}.bias"] = shape, shape[:1]
    for name in norms:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
    return found


def values(name: str, shape: tuple[int, ...], n_layers: int) -> torch.Tensor:
    """Return a tensor whose scale keeps the activations of all layers alike, as in a trained model."""
    if len(shape) == 1:
        is_norm_gain = name.endswith("weight") and "norm" in name
        return torch.full(shape, float(is_norm_gain), dtype=torch.bfloat16)
    std = 1.0 if "embed_tokens" in name else 0.02
    if "vision_tower" in name or "mm_projector" in name:
        std = math.prod(shape[1:]) ** -0.5
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        std /= math.sqrt(2 * n_layers)
    return torch.empty(shape, dtype=torch.bfloat16).normal_(0, std)


def write_weights(folder: Path, size: str, n_layers: int | None) -> None:
    """Write the shards and their index, one shard in memory at a time."""
    everything = shapes(size, n_layers)
    shards: list[list[str]] = [[]]
    n_bytes = 0
    for name, shape in everything.items():
        n_bytes += 2 * math.prod(shape)
        if n_bytes > SHARD_BYTES and shards[-1]:
            shards.append([])
            n_bytes = 2 * math.prod(shape)
        shards[-1].append(name)
    embedding = None
    for i, names in enumerate(shards):
        tensors = {name: values(name, everything[name], n_layers or SIZES[size][2]) for name in names}
        embedding = tensors.get("model.embed_tokens.weight", embedding)
        if "lm_head.weight" in tensors:
            order = torch.randperm(N_VOCAB)
            tensors["lm_head.weight"] += SUCCESSOR * embedding[order]
        save_file(tensors, folder / shard_name(i, len(shards)), metadata={"format": "pt"})
        print(f"{shard_name(i, len(shards))}: {len(names)} tensors", flush=True)
    where = {name: shard_name(i, len(shards)) for i, names in enumerate(shards) for name in names}
    index = {"metadata": {"total_size": sum(2 * math.prod(s) for s in everything.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def shard_name(i: int, n: int) -> str:
    """Name a shard as transformers does."""
    return f"model-{i + 1:05}-of-{n:05}.safetensors"


def write_config(folder: Path, size: str, n_layers: int | None) -> None:
    """Write LLaVA's own configuration."""
    width, inner, layers, heads = SIZES[size]
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": n_layers or layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "vocab_size": N_VOCAB,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_hidden_size": VISION["hidden"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_patch_merge_type": "flat",
        "mm_use_im_start_end": False,
        "mm_use_im_patch_token": False,
        "image_aspect_ratio": "pad",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def write_tokenizer(path: Path, vocab: Path | None) -> None:
    """Write tokenizer.model: a copy, a GGUF vocabulary in sentencepiece's form, or made-up pieces."""
    if vocab is not None and vocab.suffix == ".model":
        path.write_bytes(vocab.read_bytes())
        return
    model = spm.ModelProto()
    for piece, score, kind in gguf_pieces(vocab) if vocab is not None else made_up_pieces():
        entry = model.pieces.add()
        entry.piece, entry.score, entry.type = piece, score, kind
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type, trainer.byte_fallback, trainer.vocab_size = 2, True, len(model.pieces)  # 2: BPE
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    normalizer.name, normalizer.add_dummy_prefix = "identity", True
    normalizer.remove_extra_whitespaces, normalizer.escape_whitespaces = False, True
    path.write_bytes(model.SerializeToString())


def gguf_pieces(vocab: Path) -> list[tuple[str, float, int]]:
    """Read a vocabulary as llama.cpp stores it."""
    import gguf

    fields = gguf.GGUFReader(vocab).fields
    names = ("tokens", "scores", "token_type")
    return list(zip(*(fields[f"tokenizer.ggml.{name}"].contents() for name in names), strict=True))


def made_up_pieces() -> list[tuple[str, float, int]]:
    """Return pieces of Llama's kinds with their scores: special ones, bytes, merges of letters, single characters."""
    special = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    special += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    pairs = [f"▁{a}" for a in letters + letters.upper()] + ["".join(pair) for pair in product(letters, repeat=2)]
    triples = [f"{pair}{letter}" for pair in pairs for letter in letters]
    characters = ["▁", *(chr(code) for code in range(0x21, 0x7F)), "\n"]
    pieces = [*pairs, *triples]
    quads = [piece + letter for piece in triples for letter in letters]
    n_merges = N_VOCAB - len(special) - len(characters)
    pieces = (pieces + quads)[:n_merges] + characters
    return special + [(piece, -float(i), 1) for i, piece in enumerate(pieces)]


def main() -> None:
    """Parse the command line and write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--vocab", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    args.out.mkdir(parents=True)
    write_config(args.out, args.size, args.layers)
    write_tokenizer(args.out / "tokenizer.model", args.vocab)
    write_weights(args.out, args.size, args.layers)


if __name__ == "__main__":
    main()
