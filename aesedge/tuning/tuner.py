"""Find the fastest settings for a bundle on this machine, and make a profile of them."""

from __future__ import annotations

import logging
import time
from dataclasses import fields, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil

from aesedge.config.memory import check_fit
from aesedge.config.options import Options
from aesedge.config.plan import Settings
from aesedge.config.planning import make_plan
from aesedge.config.profile import FORMAT, Profile, machine_facts, profile_key
from aesedge.errors import UsageError
from aesedge.llm.accelerator import kernels_in_use
from aesedge.tuning.candidates import (
    conditions,
    is_possible,
    language_candidates,
    most_precise,
    usable,
    vision_candidates,
)
from aesedge.tuning.runners import Runners
from aesedge.tuning.search import PURPOSES, Search
from aesedge.vision.providers import vision_devices

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.plan import Plan
    from aesedge.vision.providers import Device

DEFAULT_SECONDS = 110.0
_LOOK_S = 0.3
_BUSY = 0.3
"""Share of all processors that others may take without a warning."""
_log = logging.getLogger("aesedge")


def tune(
    bundle: Bundle,
    *,
    gguf: str | None = None,
    device: Device = "auto",
    memory: str | None = None,
    seconds: float = DEFAULT_SECONDS,
    show: Callable[[float], None] = lambda _fraction: None,
) -> Profile:
    """Find the fastest settings of a bundle on this machine that leave scores where they are.

    Args:
        bundle: the bundle.
        gguf: quantization type, any case; None takes the manifest's default.
        device: where it is to run.
        memory: what the process may take; None is what the machine has free.
        seconds: how long it may take.
        show: called with the fraction of that which is over, 0..1.

    Raises:
        UsageError: the time is too short for anything.
        MemoryFitError: the bundle does not fit at all.
        BundleError, ModelLoadError, ProviderError: see :class:`aesedge.engine.model.Model`.
    """
    if not 0 < seconds <= 1e7:
        raise UsageError(f"--seconds {seconds:g}: it must be above 0 and at most 10000000")
    started = time.perf_counter()
    defaults = {
        purpose: make_plan(Options(gguf=gguf, device=device, memory=memory, tuned=False, purpose=purpose), bundle)
        for purpose in PURPOSES
    }
    plan = check_fit(bundle, defaults["score"], memory).estimate.plan
    busy = psutil.cpu_percent(_LOOK_S) / 100
    if busy > _BUSY:
        _log.warning(
            "other programs keep %.0f%% of the processors busy: numbers of threads are left as they are, and the rest "
            "may not hold when those are gone",
            100 * busy,
        )
    with Runners(bundle, plan, memory, started + seconds - time.perf_counter()) as runners:
        default = plan.settings
        runners.open("vision", [default])
        types = usable(bundle.manifest.types("vision"), runners.provider)
        precise = replace(default, vision=most_precise(types))
        start = precise if runners.has_room(precise) else default
        search = Search(
            runners,
            start,
            deadline=started + seconds,
            seconds=seconds,
            show=lambda: show(min(1.0, (time.perf_counter() - started) / seconds)),
        )
        machine = conditions(
            device,
            _model_bytes(bundle, plan),
            repacks=runners.repacks(start),
            has_kernels=bool(kernels_in_use(wanted=start.kernels)),
            is_busy=busy > _BUSY,
        )
        devices = vision_devices() if device == "auto" else []
        search.run(vision_candidates(start, types, runners.provider, machine, devices))
        search.run(language_candidates(start, plan.n_image_tokens, machine))
        expected = {purpose: found for purpose in PURPOSES if (found := search.expected_s(purpose)) is not None}
    skipped = [trial["skipped"] for trial in search.trials if trial.get("skipped")]
    if len(skipped) == len(search.trials):
        raise UsageError(
            f"nothing could be measured in {seconds:g} s ({skipped[0] if skipped else 'there is nothing to try'}); "
            "give it more with --seconds"
        )
    return Profile(
        format=FORMAT,
        key=profile_key(bundle.manifest, plan.gguf, device),
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        took_s=time.perf_counter() - started,
        machine={**machine_facts(), "busy": busy},
        settings={
            purpose: settled(best.settings, start, defaults[purpose].settings, search.measured(purpose))
            for purpose, best in search.best.items()
        },
        expected_s=expected,
        trials=search.trials,
    )


def settled(best: Settings, start: Settings, default: Settings, measured: Collection[str]) -> Settings:
    """Return the best settings, with the defaults of the purpose for fields that were not measured."""
    names = {field.name for field in fields(Settings)} - set(measured)
    left = {name: getattr(default, name) for name in names if getattr(best, name) == getattr(start, name)}
    found = replace(best, **left)
    return found if is_possible(found) else best


def _model_bytes(bundle: Bundle, plan: Plan) -> int:
    files = [bundle.manifest.file("llm", plan.gguf), bundle.manifest.file("vision", plan.vision)]
    return sum(file.n_bytes for file in files if file is not None)
