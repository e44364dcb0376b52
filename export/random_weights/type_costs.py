"""Measure what a quantization type costs on this machine, by small models as wide as the measured one.

A layer of a type takes as long in a model of few layers as in one of 32. So each type gets such a model of random
weights, which takes turns with one of the measured type, and what counts is the ratio of the two: for prefill that
ratio itself; for decode, which reads weights, each type's seconds per byte times the bytes that the large model reads
for a token, so that the head and mixtures of types count by their bytes.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aesedge.bundle.gguf_tensors import read_weights
from aesedge.bundle.gguf_types import COMMON_TYPES
from aesedge.config.planning import repacking_pays
from aesedge.errors import BundleError
from aesedge.llm import Context, LanguageModel
from aesedge.llm.limits import N_CTX_PAD
from aesedge.llm.raw_timing import RawTimer
from aesedge.tuning.paired_runs import in_turns, ratio_of

from .probe import ProbeWriter, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from aesedge.bench.predict import Measured, PredictTypes
    from aesedge.bench.result import Prediction
    from aesedge.bundle.bundle import Bundle
    from aesedge.config.plan import Plan
    from aesedge.engine.model import Model

    WriteProbe = Callable[[str, Path], int]
    """Writes a small model of a type; returns the bytes that decoding a token reads in the large one of that type."""
    Submit = Callable[[Callable[[], int]], Future[int]]


_N_TURNS, _N_DECODED = 3, 16
_NO_TIME = "there was no time for it"
_SECONDS = 45.0


@dataclass(frozen=True)
class TypeCost:
    """How a type compares with the measured one."""

    gguf: str
    prefill: float
    """Seconds for a row, as a multiple of the measured type's."""
    decode: float
    """Seconds for a token of the large model, as a multiple of the measured type's."""
    bytes_per_token: int
    """Weights that decoding a token reads in the large model."""
    repack: bool
    """Whether its weights were copied into layouts for this CPU."""


class TypeCosts(NamedTuple):
    """What was found within the time."""

    costs: list[TypeCost]
    left_out: dict[str, str]
    """Type to the reason why it was not timed."""


class _Took(NamedTuple):
    """Nanoseconds of one turn."""

    prefill: int
    decode: int


class _Probe:
    """A small model, open. Close it."""

    def __init__(self, path: Path, maker: ProbeMaker, *, repack: bool, full_bytes: int) -> None:
        plan, self.repack, self.full_bytes = maker.plan, repack, full_bytes
        self.own_bytes = sum(weight.n_bytes for weight in read_weights(path) if not weight.is_input)
        with ExitStack() as stack:
            model = stack.enter_context(LanguageModel(path, gpu_layers=maker.gpu_layers, repack=repack))
            context = Context(
                model,
                n_ctx=plan.n_image_tokens + _N_DECODED + N_CTX_PAD,
                n_seq_max=1,
                n_threads=plan.threads,
                n_threads_batch=plan.threads_batch,
                kv_type=plan.kv_type,
                flash_attention=plan.flash_attention,
            )
            self._timer = stack.enter_context(RawTimer(context, n_ubatch=plan.n_ubatch, submit=maker.submit))
            noise = np.random.default_rng(0).standard_normal((plan.n_image_tokens, model.n_embd), np.float32)
            self._rows = np.float32(0.01) * (1 + noise)
            self._resources = stack.pop_all()

    @property
    def scale(self) -> float:
        """How often the large model has what this one reads for a token."""
        return self.full_bytes / self.own_bytes

    def turn(self, n_decoded: int = _N_DECODED) -> _Took:
        """Prefill an image, and decode behind it."""
        return _Took(self._timer.prefill_embeddings(self._rows), self._timer.decode_on(n_decoded))

    def close(self) -> None:
        self._resources.close()


@dataclass(frozen=True)
class ProbeMaker:
    """Where small models come from, and how they are run."""

    plan: Plan
    """How the large model was measured; other types are repacked where that pays by rule."""
    write_probe: WriteProbe
    folder: Path
    """Where they are written; each is removed as soon as it is open."""
    submit: Submit
    """Runs work on the one thread that calls llama.cpp, see :class:`aesedge.llm.raw_timing.RawTimer`."""
    gpu_layers: int = 0
    """Or -1, where the large model was on a GPU."""

    def open(self, kind: str, *, repack: bool) -> _Probe:
        """Write a small model, open it, and run it once."""
        path = self.folder / f"probe-{kind.lower()}.gguf"
        try:
            probe = _Probe(path, self, repack=repack, full_bytes=self.write_probe(kind, path))
        finally:
            with suppress(PermissionError):  # one that is mapped stays on Windows, and goes with its folder
                path.unlink(missing_ok=True)
        try:
            probe.turn(1)
        except BaseException:
            probe.close()
            raise
        return probe


def type_predictor(bundle: Bundle, gguf: str) -> PredictTypes:
    """Return what times other types against that of an open model, by small models as wide as a bundle's.

    Raises:
        CheckpointError: the header of the bundle's file of this type does not say its shape.
    """
    writer = ProbeWriter(shape_of(bundle.path("llm", gguf)))

    def predict(model: Model, measured: Measured, show: Callable[[float], None]) -> tuple[list[Prediction], list[str]]:
        with tempfile.TemporaryDirectory(prefix="aesedge-bench-") as folder:
            maker = ProbeMaker(
                model.internals.plan, writer, Path(folder), model.internals.scheduler.call, model.internals.n_gpu_layers
            )
            found = measure_types(maker, seconds=_SECONDS, progress=show)
        notes = [f"no prediction for {kind}: {why}" for kind, why in found.left_out.items()]
        return predict_types(measured, found.costs), notes

    return predict


def predict_types(measured: Measured, costs: Iterable[TypeCost]) -> list[Prediction]:
    """Predict other types with the measured number of image tokens."""
    return [
        measured.prediction(
            f"{measured.gguf.lower()} as measured; against it prefill takes {cost.prefill:.2f} and decode "
            f"{cost.decode:.2f} times as long, by models of few layers, as wide"
            + (", weights repacked" if cost.repack else ""),
            gguf=cost.gguf,
            prefill=cost.prefill,
            decode=cost.decode,
        )
        for cost in costs
    ]


def measure_types(
    maker: ProbeMaker,
    *,
    types: Sequence[str] = COMMON_TYPES,
    seconds: float,
    progress: Callable[[float], None] = lambda _share: None,
) -> TypeCosts:
    """Time types against the measured one, in turns.

    Args:
        maker: how small models are made and run.
        types: which, any case; the measured one is left out.
        seconds: what it may take. A type is not begun if another took longer than what is left.
        progress: called with the share of the types that are done, 0..1.

    Raises:
        BundleError: there is no room on the disk for the measured type.
    """
    began = time.perf_counter()
    measured = maker.plan.gguf.lower()
    others = [t for t in dict.fromkeys(map(str.lower, types)) if t != measured]
    found = TypeCosts([], {})
    if not others or seconds <= 0:
        return TypeCosts([], dict.fromkeys(others, _NO_TIME))
    base = maker.open(measured, repack=maker.plan.repack)
    longest = 0.0
    try:
        for i, kind in enumerate(others):
            begun = time.perf_counter()
            if began + seconds - begun <= longest:
                found.left_out.update(dict.fromkeys(others[i:], _NO_TIME))
                break
            cost = _cost(maker, kind, base)
            if isinstance(cost, str):
                found.left_out[kind] = cost
            else:
                found.costs.append(cost)
                longest = max(longest, time.perf_counter() - begun)
            progress((i + 1) / len(others))
    finally:
        base.close()
    return found


def _cost(maker: ProbeMaker, kind: str, base: _Probe) -> TypeCost | str:
    """Time one type; returns why not, where that is so."""
    try:
        probe = maker.open(kind, repack=repacking_pays(kind))
    except BundleError as error:
        return str(error)
    try:
        rounds = [[_N_DECODED]] * _N_TURNS
        pairs = [(ours, theirs) for _, ours, theirs in in_turns(rounds, base.turn, probe.turn)]
    finally:
        probe.close()
    return TypeCost(
        gguf=kind,
        prefill=ratio_of([(ours.prefill, theirs.prefill) for ours, theirs in pairs]).ratio,
        decode=ratio_of([(ours.decode, theirs.decode) for ours, theirs in pairs]).ratio * probe.scale / base.scale,
        bytes_per_token=probe.full_bytes,
        repack=probe.repack,
    )
