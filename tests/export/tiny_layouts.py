"""One tiny LLaVA in every layout that checkpoints come in; each builder says what it must be equal to."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import tiny_llava
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RANK, ALPHA = 8, 16
TOWER = "vision_tower."
ORIGINAL_TOWER = "model.vision_tower.vision_tower."
LINEARS = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]


@dataclass(frozen=True)
class Made:
    """A checkpoint in some layout."""

    folder: Path
    same_as: Path
    """A Hugging Face checkpoint with the same weights."""
    options: dict[str, Path] = field(default_factory=dict)
    """What ``open_checkpoint`` and ``export_checkpoint`` need beside the folder."""
    hub_cache: Path | None = None
    """What ``huggingface_hub.constants.HF_HUB_CACHE`` must be."""


def make_hf(source: Path, folder: Path, *, spelling: Callable[[str], str], json_tokenizer: bool = False) -> Made:
    """Respell a Hugging Face checkpoint."""
    target = tiny_llava.respell(source, folder / "hf", spelling)
    if json_tokenizer:
        keep_only_tokenizer_json(target)
    return Made(target, source)


def make_original(
    source: Path,
    folder: Path,
    *,
    tower: str = "inside",
    n_shards: int = 1,
    pickled: bool = False,
    projector_beside: bool = False,
    json_tokenizer: bool = False,
    **config: Any,
) -> Made:
    """Write the original layout.

    Args:
        source: a Hugging Face checkpoint.
        folder: an empty folder, to write into.
        tower: ``inside`` the weight files, in a ``subfolder`` called after it, in a folder ``beside`` the checkpoint
            called after it, in a ``separate`` folder that must be given, or in the ``cache`` of huggingface_hub.
        n_shards: number of weight files; more than one have an index.
        pickled: whether they are ``.bin`` files.
        projector_beside: whether the projector is in ``mm_projector.bin``.
        json_tokenizer: whether there is only a ``tokenizer.json``.
        config: fields of ``config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = tiny_llava.write_original(source, folder / "llava")
    tiny_llava.edit_config(target, **config)
    short = tiny_llava.CLIP_NAME.split("/")[1]
    options, cache = {}, None
    if tower in {"subfolder", "beside", "separate"}:
        clip = {"subfolder": target / short, "beside": folder / short, "separate": folder / "clip"}[tower]
        tiny_llava.split_off_tower(target, clip)
        options = {"vision_tower": clip} if tower == "separate" else {}
    elif tower == "cache":
        cache = folder / "hub"
        tiny_llava.split_off_tower(target, folder / "clip")
        into_hub_cache(folder / "clip", tiny_llava.CLIP_NAME, cache)
    if projector_beside:
        split_off_projector(target)
    if n_shards > 1 or pickled:
        rewrite_weights(target, n_shards=n_shards, pickled=pickled)
    if json_tokenizer:
        keep_only_tokenizer_json(target)
    return Made(target, source, options, cache)


def make_lora(
    source: Path, folder: Path, *, base: str = "llama", pickled: bool = False, config: dict[str, Any] | None = None
) -> Made:
    """Write a LoRA checkpoint as LLaVA's trainer does (``base`` llama or original), or as PEFT does (``hf``).

    Args:
        source: a Hugging Face checkpoint; the adapter is trained on its text half.
        folder: an empty folder, to write into.
        base: ``llama``, a plain text model, its projector and CLIP folder apart; ``original``, a LLaVA, with an
            embedding trained as a whole; ``hf``, a LLaVA of transformers, with no configuration beside the adapter.
        pickled: whether the adapter is a ``.bin`` file, its names as PEFT has them in memory.
        config: fields of ``adapter_config.json``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "base_model_name_or_path": "/somewhere/else/base",
        **(config or {}),
    }
    trained = {_middle(name): tensor for name, tensor in load_file(source / "model.safetensors").items()}
    factors = random_factors(trained)
    merged = dict(trained)
    scaling = settings["lora_alpha"] / (RANK**0.5 if settings["use_rslora"] else RANK)
    for module, (a, b) in factors.items():
        weight = trained[f"{module}.weight"]
        merged[f"{module}.weight"] = (weight.float() + b @ a * scaling).to(weight.dtype)
    if base == "original":
        merged["model.language_model.embed_tokens.weight"] = trained["model.language_model.embed_tokens.weight"] * 1.5
    same_as = shutil.copytree(source, folder / "merged")
    save_file(merged, same_as / "model.safetensors")

    lora = folder / "llava-tiny-lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text(json.dumps(settings))
    spell = (lambda name: name) if base == "hf" else tiny_llava.original_spelling
    adapter = {}
    for module, (a, b) in factors.items():
        for side, factor in (("A", a), ("B", b)):
            name = spell(f"{module}.").rstrip(".")
            adapter[f"base_model.model.{name}.lora_{side}.{'default.' if pickled else ''}weight"] = factor
    if pickled:
        torch.save(adapter, lora / "adapter_model.bin")
    else:
        save_file(adapter, lora / "adapter_model.safetensors")
    options = {"base": folder / "base"}
    if base == "hf":
        shutil.copytree(source, folder / "base")
        return Made(lora, same_as, options)
    original = make_original(source, folder / "original", tower="separate" if base == "llama" else "inside")
    shutil.copy(original.folder / "config.json", lora)
    beside = {n: t for n, t in merged.items() if "projector" in n or (base == "original" and "embed_tokens" in n)}
    named = {f"base_model.model.{tiny_llava.original_spelling(name)}": tensor for name, tensor in beside.items()}
    torch.save(named, lora / "non_lora_trainables.bin")
    shutil.copytree(original.folder, folder / "base")
    if base == "llama":
        to_llama(folder / "base")
    return Made(lora, same_as, options | original.options)


def make_projector(source: Path, folder: Path) -> Made:
    """Write what LLaVA's first stage saves: a projector trained on a plain Llama, and nothing else."""
    original = make_original(source, folder, tower="beside", projector_beside=True)
    projector = folder / "projector"
    projector.mkdir()
    shutil.move(original.folder / "mm_projector.bin", projector)
    shutil.copy(original.folder / "config.json", projector)
    return Made(projector, source, {"base": to_llama(original.folder)})


LAYOUTS: dict[str, Callable[[Path, Path], Made]] = {
    "hf up to 4.51": partial(make_hf, spelling=tiny_llava.old_spelling),
    "hf from 4.52": partial(make_hf, spelling=tiny_llava.middle_spelling, json_tokenizer=True),
    "hf from 5.6": partial(make_hf, spelling=tiny_llava.new_spelling),
    "original": make_original,
    "original, called llama": partial(make_original, model_type="llama", n_shards=3),
    "original, called llava, pickled": partial(make_original, model_type="llava", n_shards=2, pickled=True),
    "original, tower trained": partial(make_original, unfreeze_mm_vision_tower=True),
    "original, tower in a subfolder": partial(
        make_original, tower="subfolder", mm_vision_tower="x/" + "clip-vit-tiny-patch14-56"
    ),
    "original, tower beside": partial(make_original, tower="beside", json_tokenizer=True),
    "original, tower given": partial(make_original, tower="separate", pickled=True),
    "original, tower in the hub's cache": partial(make_original, tower="cache"),
    "original, projector beside": partial(make_original, projector_beside=True),
    "projector alone": make_projector,
    "lora on llama": make_lora,
    "lora on original, pickled": partial(make_lora, base="original", pickled=True),
    "lora on hf": partial(make_lora, base="hf", config={"use_rslora": True}),
}


def random_factors(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return A [rank, n_in] and B [n_out, rank] for every linear module of the language model."""
    generator = torch.Generator().manual_seed(13)
    found = {}
    for name, tensor in tensors.items():
        module = name.removesuffix(".weight")
        if "language_model.layers" in name and module.endswith(tuple(LINEARS)):
            n_out, n_in = tensor.shape
            a = torch.randn((RANK, n_in), generator=generator) * 0.05
            found[module] = (a, torch.randn((n_out, RANK), generator=generator) * 0.05)
    return found


def to_llama(original: Path) -> Path:
    """Leave only the language model of an original-layout checkpoint."""
    config = json.loads((original / "config.json").read_bytes())
    text = {key: value for key, value in config.items() if not key.startswith(("mm_", "image_"))}
    plain = {**LlamaConfig(**text).to_dict(), "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (original / "config.json").write_text(json.dumps(plain))
    tensors = load_file(original / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "mm_" not in n and TOWER not in n}, original / "model.safetensors")
    return original


def split_off_projector(original: Path) -> Path:
    """Move the projector of an original-layout checkpoint into ``mm_projector.bin``, as LLaVA's trainer saves it."""
    tensors = load_file(original / "model.safetensors")
    projector = {name: tensors.pop(name) for name in list(tensors) if "mm_projector" in name}
    save_file(tensors, original / "model.safetensors")
    torch.save(projector, original / "mm_projector.bin")
    return original / "mm_projector.bin"


def rewrite_weights(folder: Path, *, n_shards: int, pickled: bool, legacy: bool = False) -> list[Path]:
    """Spread the tensors of ``model.safetensors`` over files as transformers names them."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem, suffix = ("pytorch_model", ".bin") if pickled else ("model", ".safetensors")
    names = sorted(tensors)
    files, index = [], {}
    for i in range(n_shards):
        path = folder / (f"{stem}-{i + 1:05}-of-{n_shards:05}{suffix}" if n_shards > 1 else f"{stem}{suffix}")
        held = {name: tensors[name] for name in names[i::n_shards]}
        if pickled:
            torch.save(held, path, _use_new_zipfile_serialization=not legacy)
        else:
            save_file(held, path)
        files.append(path)
        index |= dict.fromkeys(held, path.name)
    if n_shards > 1:
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps({"weight_map": index}))
    return files


def into_hub_cache(folder: Path, repository: str, cache: Path) -> Path:
    """Copy a model to where huggingface_hub keeps what it has downloaded."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = cache / f"models--{repository.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    return place / "snapshots" / commit


def keep_only_tokenizer_json(folder: Path, *, legacy: bool = True) -> Path:
    """Let transformers convert ``tokenizer.model``, and remove it."""
    model = folder / "tokenizer.model"
    # Added tokens would be renumbered; they stay in added_tokens.json.
    tokenizer = LlamaTokenizerFast(vocab_file=str(model), legacy=legacy, add_prefix_space=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    model.unlink()
    return folder / "tokenizer.json"


def _middle(name: str) -> str:
    return tiny_llava.middle_spelling(name)
