"""The command ``tune``: measure the fastest settings for this machine and keep them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aesedge.bundle.bundle import open_bundle
from aesedge.cli.options import Loading, Printing, QualityPhotos, with_options
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, status, table
from aesedge.errors import UsageError
from aesedge.system.error_text import error_text
from aesedge.system.sanitize import sanitize

if TYPE_CHECKING:
    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.config.profile import Profile

_PER_S = {"vision": "photos/s", "prefill": "rows/s", "decode": "tokens/s"}


@with_options(
    json="Print the settings and every trial, or with --quality the curve, as one JSON object.",
    loading=("gguf", "device", "memory"),
)
def tune(
    context: typer.Context,
    seconds: Annotated[float, typer.Option(help="How long it may take.")] = 110.0,
    quality: QualityPhotos = None,
    plot: Annotated[
        Path | None, typer.Option(help="With --quality: draw it into this PNG.", show_default=False)
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="Remove what was measured, and measure nothing.")] = False,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Measure which settings are fastest on this machine for a bundle, and use them from then on.

    Scores and critiques are tuned separately. Settings that would change scores are refused. Keep other programs idle
    meanwhile. With --no-tuned, commands ignore what was measured. With --quality, it measures what fewer image tokens
    cost instead.
    """
    if len(context.args) > 1:
        raise UsageError(f"unexpected arguments: {' '.join(context.args)}; name the bundle with --bundle")
    # The bundle as an argument: how scripts named it before it was an option.
    bundle, options = open_bundle(context.args[0] if context.args else loading.bundle), loading.options
    if forget:
        _forget(bundle, options, printing)
        return
    if quality:
        from aesedge.cli.tune_quality import measure_quality

        measure_quality(bundle, quality, plot, printing, options)
        return
    if plot is not None:
        raise UsageError("--plot draws what --quality measures; name photos with --quality")
    from aesedge.config.profile import profile_path, save_profile
    from aesedge.tuning import tune as measure

    chosen: dict[str, Any] = {"gguf": options.gguf, "device": options.device, "memory": options.memory}
    try:
        with status(f"measuring {bundle.name}", quiet=printing.quiet) as show:
            profile = measure(bundle, seconds=seconds, show=show, **chosen)
        path = profile_path(bundle.manifest, options.gguf or bundle.manifest.defaults.gguf, profile.key)
        save_profile(profile, path)
    except KeyboardInterrupt:
        print_error("stopped: nothing was kept")
        raise
    except OSError as error:
        raise UsageError(f"what was measured cannot be kept: {error_text(error)}") from None
    if printing.json:
        print_json(profile)
        return
    if not printing.quiet:
        print(trials_text(profile) + "\n")
    print(tuned_text(profile))
    if not printing.quiet:
        print(dim(f"measured in {profile.took_s:.0f} s, kept in {sanitize(str(path))}"))


def _forget(bundle: Bundle, options: Options, printing: Printing) -> None:
    from aesedge.config.profile import delete_profile

    try:
        there = delete_profile(bundle.manifest, options.gguf or bundle.manifest.defaults.gguf, options.device)
    except OSError as error:
        raise UsageError(f"what was measured cannot be removed: {error_text(error)}") from None
    if printing.json:
        print_json({"bundle": bundle.name, "forgotten": there})
    elif not printing.quiet:
        print(f"{bundle.name}: {'what was measured is forgotten' if there else 'nothing was measured here'}")


def trials_text(profile: Profile) -> str:
    """Return a table of the trials: both settings, their ratio, the change of scores, the verdict."""
    rows: list[list[str]] = []
    below: list[str] = []
    for trial in profile.trials:
        tried = f"{_values(trial['from'])} -> {_values(trial['to'])}"
        if trial.get("skipped"):
            rows.append([trial["change"], tried, "", "", "", "not tried"])
            below.append(trial["skipped"])
            continue
        figures = trial["phases"].items()
        ratios = [_ratio(trial["ratio"].get(purpose)) for purpose in ("score", "critique")]
        moved = trial["drift"]
        rows.append([
            trial["change"], tried, *ratios, "-" if moved is None else f"{moved:.3f}", _verdicts(trial["verdict"])
        ])  # fmt: skip
        below.append(
            "; ".join(f"{_rate(f['base_s'])} -> {_rate(f['variant_s'])} {_PER_S[phase]}" for phase, f in figures)
        )
    if not rows:
        return "there is nothing to try on this machine"
    header, *lines = table(rows, header=["setting", "tried", "score", "critique", "points", ""]).splitlines()
    shown = [text for line, more in zip(lines, below, strict=True) for text in (line, dim(f"    {more}"))]
    legend = (
        "score, critique: a photo's time with the other value, of the parts that it is about\n"
        "points:          how far a score moved, of 10"
    )
    return "\n".join([header, *shown, dim(legend)])


def tuned_text(profile: Profile) -> str:
    """Return the settings of a profile, for scores and for critiques side by side."""
    from aesedge.config.plan import Settings

    rows = [
        [field.metadata["words"], *(_value(getattr(settings, field.name)) for settings in profile.settings.values())]
        for field in dataclasses.fields(Settings)
    ]
    expected = [profile.expected_s.get(purpose) for purpose in profile.settings]
    rows.append(["one photo takes about", *("-" if s is None else _time(s) for s in expected)])
    title = bold(f"settings: tuned {profile.measured_at[:10]}")
    return f"{title}\n{table(rows, header=['', *profile.settings])}"


def _values(values: dict[str, Any]) -> str:
    return ", ".join(_value(value) for value in values.values())


def _value(value: object) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value).lower()


def _rate(seconds: float) -> str:
    return f"{1 / seconds:.3g}" if seconds > 1e-3 else f"{1 / seconds:.0f}"


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _verdicts(verdict: dict[str, str]) -> str:
    """Return one word for all purposes, or one for each."""
    if len(set(verdict.values())) == 1:
        only = f" for {next(iter(verdict))}s" if len(verdict) == 1 else ""
        return next(iter(verdict.values())) + only
    return ", ".join(f"{purpose}: {said}" for purpose, said in verdict.items())
