"""Find other plans for the same bundle that take less memory, each proven by its own estimate."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from typing import TYPE_CHECKING

from aesedge.llm.limits import N_CTX_PAD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aesedge.bundle.bundle import Bundle
    from aesedge.bundle.manifest import Role
    from aesedge.config.memory.estimate import MemoryEstimate
    from aesedge.config.plan import Plan

    Change = tuple[str, Plan]
    """The option to type, and the plan with it."""


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
    by_option = [changes for changes in _single_changes(bundle, plan, wanted) if changes]
    found = False
    for changes in by_option:
        # From the largest to the smallest: the first that fits gives up least.
        first = bisect_left(changes, True, key=lambda change: fits(estimate(change[1])))
        if first < len(changes):
            found = True
            words, changed = changes[first]
            yield words, estimate(changed)
    if not found and by_option:
        together = plan
        for _, changed in (changes[-1] for changes in by_option):
            together = replace(together, **{k: v for k, v in vars(changed).items() if v != getattr(plan, k)})
        least = estimate(together)
        if fits(least):
            yield " ".join(changes[-1][0] for changes in by_option), least


def _single_changes(bundle: Bundle, plan: Plan, wanted: MemoryEstimate) -> list[list[Change]]:
    """Return, for each option, its smaller values, the largest first."""
    contexts = range(wanted.n_ctx - N_CTX_PAD, wanted.shortest_ctx - 1, -N_CTX_PAD)
    tokens = range(plan.n_image_tokens - 1, bundle.manifest.image_tokens.min - 1, -1)
    auto_layers = wanted.gpu_layers != 0 and plan.gpu_layers != "auto"
    return [
        [(f"--ctx {n}", replace(plan, ctx=n)) for n in contexts],
        [("--kv-type q8_0", replace(plan, kv_type="q8_0"))] if plan.kv_type == "f16" else [],
        [(f"--gguf {t.lower()}", replace(plan, gguf=t)) for t in _smaller(bundle, "llm", plan.gguf)],
        [(f"--vision {t.lower()}", replace(plan, vision=t)) for t in _smaller(bundle, "vision", plan.vision)],
        [(f"--image-tokens {n}", replace(plan, n_image_tokens=n)) for n in tokens],
        [("--gpu-layers auto", replace(plan, gpu_layers="auto"))] if auto_layers else [],
    ]


def _smaller(bundle: Bundle, role: Role, than: str) -> list[str]:
    """Return the types whose files are smaller, the largest first."""
    files = [f for f in bundle.manifest.files if f.role == role]
    limit = next((f.n_bytes for f in files if f.type.lower() == than.lower()), 0)
    return [f.type for f in sorted(files, key=lambda f: -f.n_bytes) if f.n_bytes < limit]
