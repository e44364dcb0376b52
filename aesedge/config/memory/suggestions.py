"""Other plans for the same bundle that take less, each proven by its own estimate; knows options, not the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from aesedge.llm.limits import N_CTX_PAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Role
    from aesedge.config.memory.estimate import MemoryEstimate
    from aesedge.config.plan import Plan

_FULL_KV = "f16"
_SMALL_KV = "q8_0"


def suggestions(
    bundle: Bundle,
    plan: Plan,
    wanted: MemoryEstimate,
    estimate: Callable[[Plan], MemoryEstimate],
    fits: Callable[[MemoryEstimate], bool],
) -> Iterator[tuple[str, MemoryEstimate]]:
    """Yield what fits, one change at a time; where no single one does, all of them together.

    Args:
        bundle: whose types and image tokens are the choice.
        plan: what was asked for.
        wanted: its estimate.
        estimate: of another plan.
        fits: whether an estimate fits.

    Yields:
        The options to type, and what they take.
    """
    found = False
    for changes in _single_changes(bundle, plan, wanted):
        # From the largest to the smallest: the first that fits gives up least.
        best = _first_that_fits(changes, estimate, fits)
        if best is not None:
            found = True
            yield best
    if not found:
        smallest = [changes[-1] for changes in _single_changes(bundle, plan, wanted) if changes]
        words = " ".join(words for words, _ in smallest)
        together = plan
        for _, changed in smallest:
            different = {k: v for k, v in vars(changed).items() if v != getattr(plan, k)}
            together = replace(together, **different)
        least = estimate(together)
        if smallest and fits(least):
            yield words, least


_Change = tuple[str, "Plan"]


def _single_changes(bundle: Bundle, plan: Plan, wanted: MemoryEstimate) -> list[list[_Change]]:
    """Return, for each option, its smaller values, the largest first."""
    least = bundle.manifest.image_tokens.min
    auto_layers = wanted.gpu_layers != 0 and plan.gpu_layers != "auto"
    return [
        [
            (f"--ctx {n}", replace(plan, ctx=n))
            for n in range(wanted.n_ctx - N_CTX_PAD, wanted.shortest_ctx - 1, -N_CTX_PAD)
        ],
        [(f"--kv-type {_SMALL_KV}", replace(plan, kv_type=_SMALL_KV))] if plan.kv_type == _FULL_KV else [],
        [(f"--gguf {t.lower()}", replace(plan, gguf=t)) for t in _smaller(bundle, "llm", plan.gguf)],
        [(f"--vision {t.lower()}", replace(plan, vision=t)) for t in _smaller(bundle, "vision", plan.vision)],
        [
            (f"--image-tokens {n}", replace(plan, n_image_tokens=n))
            for n in range(plan.n_image_tokens - 1, least - 1, -1)
        ],
        [("--gpu-layers auto", replace(plan, gpu_layers="auto"))] if auto_layers else [],
    ]


def _first_that_fits(
    changes: Sequence[_Change], estimate: Callable[[Plan], MemoryEstimate], fits: Callable[[MemoryEstimate], bool]
) -> tuple[str, MemoryEstimate] | None:
    """Search by halves: what follows in the list takes less."""
    low, high, best = 0, len(changes), None
    while low < high:
        middle = (low + high) // 2
        words, changed = changes[middle]
        found = estimate(changed)
        if fits(found):
            best, high = (words, found), middle
        else:
            low = middle + 1
    return best


def _smaller(bundle: Bundle, role: Role, than: str) -> list[str]:
    """Return the types whose files are smaller, the largest first."""
    files = [f for f in bundle.manifest.files if f.role == role]
    limit = next((f.n_bytes for f in files if f.type.lower() == than.lower()), 0)
    return [f.type for f in sorted(files, key=lambda f: -f.n_bytes) if f.n_bytes < limit]
