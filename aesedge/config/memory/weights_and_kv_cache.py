"""Estimate what the language model takes, in RAM and on GPUs: weights, KV cache, buffers.

llama.cpp maps the GGUF file. What it repacks for this CPU or sends to a GPU, it copies out of the mapping, and the
pages that it copied stay mapped: they show in the process's resident size, but they are not read again, and the system
drops them when memory is short. They are *reclaimable*, not needed. Weights that are read from the mapping are needed,
although the system could drop those too: every token reads all of them, so a machine that cannot hold them reads them
from the disk for every token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.bundle.gguf_tensors import Weight, read_weights
from aesedge.config.memory.dry_run import Buffers, DryRun
from aesedge.llm.gpu_offload import ALL_LAYERS, LayerSizes, gpu_devices, gpu_layers_for
from aesedge.llm.limits import N_BATCH_MAX, N_SEQ_MAX, padded_n_ctx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.config.plan import Plan

_SHORT_TEXT = 128  # positions of a short question and the answer "High"
_TOKEN_BYTES = 240  # of the vocabulary in memory, measured: 7 MiB for 32,000 tokens
_WORK_BYTES_PER_VALUE = 292 / 256  # the CPU backend copies a product's input, as blocks of Q8_K


@dataclass(frozen=True)
class LanguageMemory:
    """Sizes in bytes, and what was decided on the way to them."""

    in_ram: dict[str, int]
    on_gpu: dict[str, int]
    reclaimable: int
    """Pages of the file that were copied and stay mapped."""
    n_file: int
    n_ctx: int
    shortest_ctx: int
    """Cells that the text before the image, the image and a short question take."""
    gpu_layers: int

    @property
    def loaded(self) -> int:
        """What of ``in_ram`` is there before the context is opened."""
        return sum(self.in_ram[name] for name in ("weights", "weights, repacked") if name in self.in_ram)


def language_memory(path: Path, plan: Plan, before_image: str, *, reserved_bytes: int) -> LanguageMemory:
    """Ask the file and llama.cpp what a plan takes.

    Args:
        path: the GGUF file.
        plan: how it is loaded.
        before_image: the text before every image.
        reserved_bytes: what the vision tower takes, where it runs on a GPU.
    """
    weights = read_weights(path)
    with DryRun(path, repack=plan.repack) as model:
        n_layer, vocabulary = model.n_layer, model.n_vocab * _TOKEN_BYTES
        n_prefix = 1 + model.n_tokens(before_image)
        n_ctx = padded_n_ctx(plan.n_ctx(n_prefix))
        buffers = _buffers(model, n_ctx, plan)

    def sizes() -> LayerSizes:
        return layer_sizes(weights, n_layer, buffers.kv, _gpu_compute(path, n_ctx, plan))

    n_gpu = gpu_layers_for(plan.device, plan.gpu_layers, sizes, reserved_bytes=reserved_bytes)
    gpus = gpu_devices() if n_gpu else []
    if not gpus:
        split = _Split([], weights, 0)
    else:
        buffers = _planned(path, n_ctx, plan, n_gpu)
        first = 0 if n_gpu == ALL_LAYERS else max(0, n_layer + 1 - n_gpu)
        split = _split(weights, first, n_layer, buffers.kv)
    repacked = [w for w in split.in_ram if w.repacks and plan.repack]
    kept = [w for w in split.in_ram if w not in repacked]
    compute = {True: 0, False: 0}
    for device, n_bytes in buffers.compute.items():
        compute[bool(gpus) and not device.startswith("CPU") and not device.endswith("_Host")] += n_bytes
    in_ram = {
        "weights": _total(kept),
        "weights, repacked": _total(repacked),
        "KV cache": buffers.kv - split.kv_on_gpu,
        "compute buffers": compute[False] + _work_bytes(split.in_ram, n_ctx),
        "vocabulary and outputs": vocabulary + buffers.output,
    }
    on_gpu = {"weights": _total(split.on_gpu), "KV cache": split.kv_on_gpu, "compute buffers": compute[True]}
    copied = repacked or (split.on_gpu and not any(gpu.shares_ram for gpu in gpus))
    if any(gpu.shares_ram for gpu in gpus):
        in_ram |= {name: in_ram[name] + n_bytes for name, n_bytes in on_gpu.items()}
    return LanguageMemory(
        in_ram={name: n for name, n in in_ram.items() if n},
        on_gpu={name: n for name, n in on_gpu.items() if n},
        reclaimable=max(0, _span(kept) - _total(kept)) if copied else 0,
        n_file=path.stat().st_size,
        n_ctx=n_ctx,
        shortest_ctx=padded_n_ctx(n_prefix + plan.n_image_tokens + _SHORT_TEXT),
        gpu_layers=n_gpu,
    )


@dataclass(frozen=True)
class _Split:
    on_gpu: Sequence[Weight]
    in_ram: Sequence[Weight]
    kv_on_gpu: int


def _split(weights: Sequence[Weight], first: int, n_layer: int, kv: int) -> _Split:
    """Divide as llama.cpp does: the head and the layers from ``first`` on go to the GPU, the table of tokens never."""
    on_gpu = [w for w in weights if (not w.is_input if w.layer is None else w.layer >= first)]
    in_ram = [w for w in weights if w not in on_gpu]
    return _Split(on_gpu + _tied_head(weights), in_ram, kv * (n_layer - first) // n_layer if first < n_layer else 0)


def _tied_head(weights: Sequence[Weight]) -> list[Weight]:
    """Return the table of tokens where it is the head too: a GPU gets a copy."""
    has_head = any(w.name == "output.weight" for w in weights)
    return [] if has_head else [w for w in weights if w.is_input]


def layer_sizes(weights: Sequence[Weight], n_layer: int, kv: int, compute: int) -> LayerSizes:
    """Return what each layer takes on a GPU: its weights and its share of the KV cache."""
    layers = [kv // n_layer] * n_layer
    for w in weights:
        if w.layer is not None and w.layer < n_layer:
            layers[w.layer] += w.n_bytes
    head = [w for w in weights if w.layer is None and not w.is_input] + _tied_head(weights)
    return LayerSizes(layers=layers, output=_total(head), compute=compute)


def _planned(path: Path, n_ctx: int, plan: Plan, gpu_layers: int) -> Buffers:
    with DryRun(path, gpu_layers=gpu_layers, repack=plan.repack) as model:
        return _buffers(model, n_ctx, plan)


def _gpu_compute(path: Path, n_ctx: int, plan: Plan) -> int:
    """Return the larger of the buffers on a GPU that has all layers and on one that has few."""
    found = [_planned(path, n_ctx, plan, n).compute for n in (ALL_LAYERS, 1)]
    return max((n for c in found for device, n in c.items() if not device.startswith("CPU")), default=0)


def _buffers(model: DryRun, n_ctx: int, plan: Plan) -> Buffers:
    return model.buffers(
        n_ctx=n_ctx,
        n_batch=min(n_ctx, N_BATCH_MAX),
        n_seq_max=N_SEQ_MAX,
        kv_type=plan.kv_type,
        flash_attention=plan.flash_attention,
    )


def _work_bytes(weights: Sequence[Weight], n_ctx: int) -> int:
    widest = max((w.n_columns for w in weights if w.layer is not None), default=0)
    return int(min(n_ctx, N_BATCH_MAX) * widest * _WORK_BYTES_PER_VALUE)


def _total(weights: Sequence[Weight]) -> int:
    return sum(w.n_bytes for w in weights)


def _span(weights: Sequence[Weight]) -> int:
    """Bytes from the first to the last of them in the file: llama.cpp unmaps what is outside, and no holes."""
    if not weights:
        return 0
    return max(w.offset + w.n_bytes for w in weights) - min(w.offset for w in weights)
