"""Describe a run: machine, libraries, files, settings and ceilings, and what share of the ceilings a row reaches."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from PIL import Image

import aesedge
from aesedge.bench.ceilings import Ceilings, measure_ceilings
from aesedge.bench.power import PowerMeter
from aesedge.bench.result import RANDOM_WEIGHTS, RunInfo
from aesedge.bundle.checksums import sha256
from aesedge.bundle.gguf_tensors import read_weights
from aesedge.doctor.libraries import libraries
from aesedge.llm.gpu_offload import gpu_devices
from aesedge.system.commands import command_output
from aesedge.system.hardware import hardware
from aesedge.system.measurement_noise import disturbances
from aesedge.system.openmp_waiting import openmp_waiting
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Row
    from aesedge.engine.model import Model

_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
_FLOATS = {"f32", "f16", "bf16"}
_METER_S = 0.2


def make_run_info(model: Model, photos: Sequence[Path], *, repetitions: int, seconds: float) -> RunInfo:
    """Describe what an open model runs on, and measure the ceilings."""
    bundle, plan, llm = model.bundle, model.internals.plan, model.internals.llm
    chosen = {("llm", plan.gguf.lower()), ("vision", plan.vision.lower())}
    weights = read_weights(bundle.path("llm", plan.gguf))
    # A model without a head of its own multiplies with its table of token embeddings.
    head = [w for w in weights if w.name == "output.weight"] or [w for w in weights if w.is_input]
    read = [w for w in weights if not w.is_input and w not in head]
    comparison = bundle.manifest.fidelity.comparison
    source, context = bundle.manifest.source, model.internals.sequences.context
    on_gpu = bool(model.internals.n_gpu_layers)
    gpus = [gpu.name for gpu in gpu_devices()] if on_gpu else []
    with PowerMeter() as meter:
        time.sleep(_METER_S)
    return RunInfo(
        started_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        aesedge=_version(),
        hardware=msgspec.to_builtins(hardware()),
        libraries=msgspec.to_builtins(libraries()),
        bundle=bundle.name,
        random_weights=(source.revision or "").split(":")[0] if source.checkpoint == RANDOM_WEIGHTS else "",
        files=[
            {"role": f.role, "type": f.type.lower(), "name": f.path, "bytes": f.n_bytes, "sha256": f.sha256}
            for f in bundle.manifest.files
            if (f.role, f.type.lower()) in chosen
        ],
        recommended=comparison.recommendation() if comparison is not None else "",
        model_type=llm.type_name,
        model_size=llm.n_bytes,
        model_n_params=llm.n_parameters,
        bytes_per_token=sum(w.n_bytes for w in [*read, *head]),
        macs_per_token=sum(w.n_columns * w.n_rows for w in read if w.is_matrix),
        kv_bytes_per_position=int(llm.n_values_per_position * _KV_BYTES[plan.kv_type]),
        backend=", ".join(gpus) or "CPU",
        plan=dataclasses.asdict(plan)
        | {
            "n_ctx": context.n_ctx,
            "n_batch": context.n_batch,
            "n_gpu_layers": model.internals.n_gpu_layers,
            "vision_provider": model.internals.tower.provider,
            "openmp_waiting": str(openmp_waiting),
        },
        photos=[_photo(path) for path in photos],
        ceilings=msgspec.to_builtins(measure_ceilings(plan.threads_batch, "gpu" if on_gpu else "cpu")),
        power=meter.power.source or f"not measured: {meter.power.why_not}",
        disturbances=[msgspec.to_builtins(found) for found in disturbances()],
        repetitions=repetitions,
        seconds=seconds,
    )


def _version() -> str:
    """Return the version, with the commit where this is a clone, in which nothing is written, not even git's index."""
    clone = Path(aesedge.__file__).parent.parent
    git = ["git", "--no-optional-locks", "-C", str(clone)]
    commit = command_output([*git, "describe", "--always", "--exclude=*"]) if (clone / ".git").exists() else None
    if not commit:
        return aesedge.__version__
    dirty = "-dirty" if command_output([*git, "status", "--porcelain", "--untracked-files=no"]) else ""
    return f"{aesedge.__version__} ({commit}{dirty})"


def _photo(path: Path) -> dict[str, Any]:
    with Image.open(path) as picture:
        width, height = picture.size
    return {"name": sanitize(path.name), "width": width, "height": height, "sha256": sha256(path)}


def add_shares(rows: Sequence[Row], card: RunInfo) -> None:
    """Add to rows of the language model what share of a measured ceiling they reach.

    Decoding reads every weight once a token, and the keys and values of all positions before it; several sequences
    read the weights together. Prefill multiplies every row with every matrix but the head, with 8-bit products where
    the weights are quantized (ggml quantizes rows to Q8_K or Q8_0); attention is left out, so the true share is a
    little higher.
    """
    ceilings = msgspec.convert(card.ceilings, Ceilings)
    is_float = card.plan["gguf"].lower() in _FLOATS
    name, peak = ("fma peak", ceilings.fma_flops_per_s) if is_float else ("int8 peak", ceilings.int8_ops_per_s)
    for row in rows:
        if row.group != "language" or not row.samples_ns:
            continue
        per_s = row.n / row.median_s
        if row.n_gen and not row.n_prompt and ceilings.read_bytes_per_s:
            n_bytes = card.bytes_per_token + card.kv_bytes_per_position * (row.n_depth + row.n_gen / 2)
            row.percent_of["read bandwidth"] = 100 * n_bytes * per_s / ceilings.read_bytes_per_s
        elif row.n_prompt and not row.n_gen and peak:
            row.percent_of[name] = 100 * 2 * card.macs_per_token * per_s / peak
