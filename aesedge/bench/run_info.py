"""What holds for every row of a run: machine, libraries, files, settings, ceilings; measures no row.

Ceilings are what this machine was measured to be capable of, and a row's share of one says what is left to be gained.
"""

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
from aesedge.bench.result import RANDOM_WEIGHTS, Card
from aesedge.bundle.checksums import sha256
from aesedge.bundle.gguf_tensors import read_weights
from aesedge.doctor.libraries import libraries
from aesedge.system.commands import command_output
from aesedge.system.environment import openmp_waiting
from aesedge.system.hardware import hardware
from aesedge.system.measurement_noise import disturbances
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bench.result import Row
    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import BundleFile
    from aesedge.config.plan import Plan
    from aesedge.engine.model import Model

_KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
READ, INT8, FMA = "read bandwidth", "int8 peak", "fma peak"
_METER_S = 0.2
_FLOATS = {"f32", "f16", "bf16"}


def make_card(
    bundle: Bundle, plan: Plan, photos: Sequence[Path], model: Model, *, repetitions: int, seconds: float
) -> Card:
    """Look at everything but the speed, and at the ceilings.

    Args:
        bundle: what is measured.
        plan: how it is run.
        photos: what it is shown.
        model: the same, open.
        repetitions: of each row.
        seconds: for all rows.
    """
    manifest = bundle.manifest
    chosen = {("llm", plan.gguf.lower()), ("vision", plan.vision.lower())}
    files = [file for file in manifest.files if (file.role, file.type.lower()) in chosen]
    weights = read_weights(bundle.path("llm", plan.gguf))
    # A model without a head of its own multiplies with its table of token embeddings.
    head = [w for w in weights if w.name == "output.weight"] or [w for w in weights if w.is_input]
    read = [w for w in weights if not w.is_input and w not in head]
    source = manifest.source
    on_gpu = bool(model.n_gpu_layers)
    ceilings = measure_ceilings(plan.threads_batch, "gpu" if on_gpu else "cpu")
    return Card(
        started_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        aesedge=_version(),
        hardware=msgspec.to_builtins(hardware()),
        libraries=msgspec.to_builtins(libraries()),
        bundle=bundle.name,
        random_weights=(source.revision or "").split(":")[0] if source.checkpoint == RANDOM_WEIGHTS else "",
        files=[_file(file) for file in files],
        model_type=model.llm.type_name,
        model_size=model.llm.n_bytes,
        model_n_params=model.llm.n_parameters,
        bytes_per_token=sum(w.n_bytes for w in [*read, *head]),
        macs_per_token=sum(w.n_columns * w.n_rows for w in read if w.is_matrix),
        kv_bytes_per_position=int(model.llm.n_values_per_position * _KV_BYTES[plan.kv_type]),
        backend=_backend(model),
        plan=_settings(model),
        photos=[_photo(path) for path in photos],
        ceilings=msgspec.to_builtins(ceilings),
        power=_power(),
        disturbances=[msgspec.to_builtins(found) for found in disturbances()],
        repetitions=repetitions,
        seconds=seconds,
    )


def _file(file: BundleFile) -> dict[str, Any]:
    kind = file.type.lower()
    return {"role": file.role, "type": kind, "name": file.path, "bytes": file.n_bytes, "sha256": file.sha256}


def _version() -> str:
    """Return the version, with the commit where this is a clone, in which nothing is written, not even git's index."""
    clone = Path(aesedge.__file__).parent.parent
    git = ["git", "--no-optional-locks", "-C", str(clone)]
    commit = command_output([*git, "describe", "--always", "--exclude=*"]) if (clone / ".git").exists() else None
    if not commit:
        return aesedge.__version__
    dirty = "-dirty" if command_output([*git, "status", "--porcelain", "--untracked-files=no"]) else ""
    return f"{aesedge.__version__} ({commit}{dirty})"


def _backend(model: Model) -> str:
    from aesedge.llm.gpu_offload import gpu_devices

    gpus = [gpu.name for gpu in gpu_devices()] if model.n_gpu_layers else []
    return ", ".join(gpus) or "CPU"


def _settings(model: Model) -> dict[str, Any]:
    context = model.sequences.context
    return dataclasses.asdict(model.plan) | {
        "n_ctx": context.n_ctx,
        "n_batch": context.n_batch,
        "n_gpu_layers": model.n_gpu_layers,
        "vision_provider": model.tower.provider,
        "openmp_waiting": openmp_waiting(),
    }


def _power() -> str:
    with PowerMeter() as meter:
        time.sleep(_METER_S)
    return meter.power.source or f"not measured: {meter.power.why_not}"


def _photo(path: Path) -> dict[str, Any]:
    with Image.open(path) as picture:
        width, height = picture.size
    return {"name": sanitize(path.name), "width": width, "height": height, "sha256": sha256(path)}


def add_shares(rows: Sequence[Row], card: Card) -> None:
    """Put beside rows of the language model what share of a measured ceiling they reach.

    Decoding reads every weight once a token, and the keys and values of all positions before it; several sequences
    read the weights together. Prefill multiplies every row with every matrix but the head, with 8-bit products where
    the weights are quantized (ggml quantizes rows to Q8_K or Q8_0); attention is left out, so the true share is a
    little higher.
    """
    ceilings = msgspec.convert(card.ceilings, Ceilings)
    is_float = card.plan["gguf"].lower() in _FLOATS
    peak_name, peak = (FMA, ceilings.fma_flops_per_s) if is_float else (INT8, ceilings.int8_ops_per_s)
    for row in rows:
        if row.group != "language" or not row.samples_ns:
            continue
        if row.n_gen and not row.n_prompt and ceilings.read_bytes_per_s:
            n_bytes = card.bytes_per_token + card.kv_bytes_per_position * (row.n_depth + row.n_gen / 2)
            row.percent_of[READ] = 100 * n_bytes * row.n / row.median_s / ceilings.read_bytes_per_s
        elif row.n_prompt and not row.n_gen and peak:
            row.percent_of[peak_name] = 100 * 2 * card.macs_per_token * row.n / row.median_s / peak
