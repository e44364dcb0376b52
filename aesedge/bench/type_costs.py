"""What a quantization type costs on this machine, by small models as wide as the measured one; predicts nothing.

A layer of a type takes as long in a model of few layers as in one of 32. So each type gets such a model of random
weights, which takes turns with one of the measured type, and what counts is the ratio of the two.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aesedge.errors import BundleError
from aesedge.llm import Context, LanguageModel, binding
from aesedge.llm.interrupt import result_unless_stopped
from aesedge.memory.header import read_weights
from aesedge.options import repacking_pays
from aesedge.work import even

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from aesedge.plan import Plan

    WriteProbe = Callable[[str, Path], int]
    """Writes a small model of a type; returns the bytes that decoding a token reads in the large one of that type."""
    Submit = Callable[[Callable[[], "_Took"]], "Future[_Took]"]

TYPES = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")
"""What is tried where nobody says otherwise, the most precise first."""
_N_TURNS, _N_DECODED = 3, 16
_CELLS = 256  # llama.cpp's step
_NO_TIME = "there was no time for it"


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
    """Type to the reason why nothing is known of it."""


class _Took(NamedTuple):
    """Seconds of one turn."""

    prefill: float
    decode: float


class _Probe:
    """A small model, open. Close it."""

    def __init__(
        self, path: Path, plan: Plan, submit: Submit, gpu_layers: int, *, repack: bool, full_bytes: int
    ) -> None:
        self._submit = submit
        self.full_bytes = full_bytes
        self.repack = repack
        self.own_bytes = sum(weight.n_bytes for weight in read_weights(path) if not weight.is_input)
        self._sizes = [even(plan.n_image_tokens, plan.chunk)] * -(-plan.n_image_tokens // plan.chunk)
        with ExitStack() as stack:
            model = stack.enter_context(LanguageModel(path, gpu_layers=gpu_layers, repack=repack))
            n_rows = sum(self._sizes)
            self._context = stack.enter_context(
                Context(
                    model,
                    n_ctx=n_rows + _N_DECODED + _CELLS,
                    n_seq_max=1,
                    n_threads=plan.threads,
                    n_threads_batch=plan.threads_batch,
                    kv_type=plan.kv_type,
                    flash_attention=plan.flash_attention,
                )
            )
            self._rows = np.full((max(self._sizes), model.n_embd), 0.01, np.float32)
            self._rows += np.random.default_rng(0).standard_normal(self._rows.shape, np.float32) * np.float32(0.01)
            self._resources = stack.pop_all()

    @property
    def scale(self) -> float:
        """How often the large model has what this one reads for a token."""
        return self.full_bytes / self.own_bytes

    def turn(self, n_decoded: int = _N_DECODED) -> _Took:
        """Prefill an image, and decode behind it."""
        return result_unless_stopped(self._submit(lambda: self._turn(n_decoded)), self._context.abort)

    def _turn(self, n_decoded: int) -> _Took:
        context = self._context
        context.truncate(0, 0)
        started = time.perf_counter()
        for n in self._sizes:
            context.append_rows([(0, self._rows[:n])])
        binding.load().llama_synchronize(context.handle)
        middle = time.perf_counter()
        for token in range(n_decoded):
            context.prefill_tokens(0, [3 + token])  # the logits are fetched, so a GPU has finished
        return _Took(middle - started, (time.perf_counter() - middle) / n_decoded)

    def close(self) -> None:
        self._resources.close()


@dataclass(frozen=True)
class Workshop:
    """Where small models come from, and how they are run."""

    plan: Plan
    """How the large model was measured; other types are repacked where that pays by rule."""
    write_probe: WriteProbe
    folder: Path
    """Where they are written; each is removed as soon as it is open."""
    submit: Submit
    """Runs work on the one thread that calls llama.cpp, see :class:`aesedge.llm.bare.Bare`."""
    gpu_layers: int = 0
    """Or -1, where the large model was on a GPU."""

    def open(self, kind: str, *, repack: bool) -> _Probe:
        """Write a small model, open it, and run it once."""
        path = self.folder / f"probe-{kind.lower()}.gguf"
        try:
            full_bytes = self.write_probe(kind, path)
            probe = _Probe(path, self.plan, self.submit, self.gpu_layers, repack=repack, full_bytes=full_bytes)
        finally:
            _remove(path)
        try:
            probe.turn(1)
        except BaseException:
            probe.close()
            raise
        return probe


def measure_types(
    workshop: Workshop,
    *,
    types: Sequence[str] = TYPES,
    seconds: float,
    largest_bytes: int | None = None,
    progress: Callable[[float], None] = lambda _share: None,
    stop: Callable[[], bool] = lambda: False,
) -> TypeCosts:
    """Time types against the measured one, in turns.

    Args:
        workshop: how small models are made and run.
        types: which, any case; the measured one is left out.
        seconds: what it may take. A type is not begun if another took longer than what is left.
        largest_bytes: types whose large model reads more for a token are left out; None knows no limit.
        progress: called with the share of the types that are done, 0..1.
        stop: asked before every type; True ends it.

    Raises:
        BundleError: there is no room on the disk for the measured type.
    """
    began = time.perf_counter()
    measured = workshop.plan.gguf.lower()
    others = [t for t in dict.fromkeys(map(str.lower, types)) if t != measured]
    found = TypeCosts([], {})
    if not others or stop() or seconds <= 0:
        return TypeCosts([], dict.fromkeys(others, _NO_TIME))
    base = workshop.open(measured, repack=workshop.plan.repack)
    longest = 0.0
    try:
        for i, kind in enumerate(others):
            begun = time.perf_counter()
            if stop() or began + seconds - begun <= longest:
                found.left_out.update(dict.fromkeys(others[i:], _NO_TIME))
                break
            cost = _cost(workshop, kind, base, largest_bytes)
            if isinstance(cost, str):
                found.left_out[kind] = cost
            else:
                found.costs.append(cost)
                longest = max(longest, time.perf_counter() - begun)
            progress((i + 1) / len(others))
    finally:
        base.close()
    return found


def _cost(workshop: Workshop, kind: str, base: _Probe, largest_bytes: int | None) -> TypeCost | str:
    """Time one type; returns why not, where that is so."""
    try:
        probe = workshop.open(kind, repack=repacking_pays(kind))
    except BundleError as error:
        return str(error)
    try:
        if largest_bytes is not None and probe.full_bytes > largest_bytes:
            return "its weights do not fit the memory"
        ratios: list[_Took] = []
        for turn in range(_N_TURNS):
            if turn % 2:
                theirs, ours = probe.turn(), base.turn()
            else:
                ours, theirs = base.turn(), probe.turn()
            ratios.append(_Took(theirs.prefill / ours.prefill, theirs.decode / ours.decode))
    finally:
        probe.close()
    return TypeCost(
        gguf=kind,
        prefill=median(r.prefill for r in ratios),
        decode=median(r.decode for r in ratios) * probe.scale / base.scale,
        bytes_per_token=probe.full_bytes,
        repack=probe.repack,
    )


def _remove(path: Path) -> None:
    """Remove a file; one that is mapped stays on Windows, and goes with its folder."""
    with suppress(PermissionError):
        path.unlink(missing_ok=True)
