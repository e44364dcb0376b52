"""The command ``doctor``: is this machine fit, what slows it down, is reuse exact; knows tables and exit codes only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aesedge.bundle.bundle import open_bundle
from aesedge.cli import doctor_text
from aesedge.cli.exit_codes import SOME_FAILED
from aesedge.cli.options import Loading, Printing, expand
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, status, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.doctor import CacheReport, Check, Floors
    from aesedge.doctor.advice import Advice
    from aesedge.doctor.difference import Limits
    from aesedge.doctor.libraries import Libraries
    from aesedge.system.hardware import Disk, Hardware
    from aesedge.system.measurement_noise import NoiseSource


@expand
def doctor(
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Prove that reuse changes nothing and no photo answers for another (seconds with pocket, long at 7B).",
        ),
    ] = False,
    photo: Annotated[
        list[Path] | None,
        typer.Option(
            help="Prove it on this photo; may be given several times.", show_default="two samples and a drawn one"
        ),
    ] = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """See whether this machine is fit for a bundle, and what would be faster; with --cache, whether reuse is exact.

    It shows what the machine has, what the libraries were built with, and what disturbs measurements now. None of that
    makes a machine unfit. What is kept for the proof lies in a temporary folder; your own cache is not touched.
    """
    options = loading.options
    bundle = open_bundle(loading.bundle)
    passed = (
        _examine_cache(bundle, options, photo or [], printing) if cache else _examine_machine(bundle, options, printing)
    )
    if not passed:
        raise typer.Exit(SOME_FAILED)


def _examine_machine(bundle: Bundle, options: Options, printing: Printing) -> bool:
    from aesedge.doctor import examine_machine

    with status(f"reading {bundle.name}", quiet=printing.quiet) as show:
        findings = examine_machine(bundle, options, show)
    passed = all(finding.passed for finding in findings)
    if printing.json:
        found = _look_around(bundle, options, printing)
        checks = [finding._asdict() for finding in findings]
        print_json({"bundle": bundle.name, "passed": passed, "checks": checks, **vars(found)})
        return passed
    for finding in findings:
        if not finding.passed:
            print_error(f"{finding.name}: {finding.found}")
    if not printing.quiet:
        found = _look_around(bundle, options, printing)
        sections = [
            doctor_text.fitness_section(findings),
            doctor_text.hardware_section(found.machine, found.disks),
            doctor_text.libraries_section(found.libraries),
            doctor_text.advice_section(found.faster),
            doctor_text.disturbances_section(found.disturbances),
        ]
        print("\n\n".join(sections) + "\n")
    print(bold(f"{'fit' if passed else 'NOT FIT'}: {bundle.name} on this machine"))
    if passed and not printing.quiet:
        print(dim("'aesedge doctor --cache' proves that reuse is exact here"))
    return passed


@dataclass(frozen=True)
class _Surroundings:
    """Remarks, which decide nothing: a machine that could be faster is fit."""

    machine: Hardware
    disks: list[Disk]
    libraries: Libraries
    faster: list[Advice]
    disturbances: list[NoiseSource]


def _look_around(bundle: Bundle, options: Options, printing: Printing) -> _Surroundings:
    from aesedge.doctor.advice import advice
    from aesedge.doctor.libraries import libraries
    from aesedge.system.hardware import disks, hardware
    from aesedge.system.measurement_noise import disturbances

    with status("looking at this machine", quiet=printing.quiet):
        machine, built, disturbing = hardware(), libraries(), disturbances()
        faster = advice(bundle, options, machine, built, disturbing)
    return _Surroundings(machine, disks(), built, faster, disturbing)


def _examine_cache(bundle: Bundle, options: Options, photos: Sequence[Path], printing: Printing) -> bool:
    from aesedge.doctor import CacheExamination

    with CacheExamination(bundle, options, photos) as examination:
        for name, step in examination.steps():
            with status(f"{bundle.name}: {name}", quiet=printing.quiet) as show:
                step(show)
        report = examination.report
    if printing.json:
        print_json({"bundle": bundle.name, "passed": report.passed, **_cache_json(report)})
    else:
        _show_report(bundle, report, quiet=printing.quiet)
    return report.passed


def _show_report(bundle: Bundle, report: CacheReport, *, quiet: bool) -> None:
    if not quiet:
        rows = [_row(check) for check in report.checks]
        print(table(rows, header=["check", "nats/token", "noise", "limit", "points", "bits", ""]))
        print(dim(_legend(report.floors)))
    for check in report.checks:
        if check.problem or check.skipped:
            print_error(f"{check.name}: {check.problem or f'not examined: {check.skipped}'}")
    n_failed = sum(not check.passed for check in report.checks)
    n_skipped = sum(bool(check.skipped) for check in report.checks)
    if n_failed:
        verdict = f"FAIL: {bundle.name}: {n_failed} of {len(report.checks)} checks"
    else:
        verdict = f"pass: {bundle.name}: reuse changes nothing, and no photo answers for another"
    print(bold(verdict + (f" ({n_skipped} not examined)" if n_skipped else "")))


def _row(check: Check) -> list[str]:
    if check.skipped:
        return [check.name, "-", "-", "-", "-", "", "skip"]
    found, limits = check.found, check.limits
    least = check.least_nll
    return [
        check.name,
        _figure(found.nll),
        _figure(limits.noise.nll),
        _figure(limits.nll) if least is None else f"> {_figure(least)}",
        _figure(found.points),
        "" if least is not None else "same" if found.same_bits else "other",
        _word(passed=check.passed),
    ]


def _legend(floors: Floors) -> str:
    return (
        "nats/token: change in negative log-likelihood of a given text, against a model that has just been opened\n"
        "noise:      what this machine changes by itself, computing in the same batches or in others\n"
        f"points:     change of the score, of 10; noise {_points(floors.same)} or {_points(floors.other)}"
    )


def _points(limits: Limits) -> str:
    return f"{_figure(limits.noise.points)} (limit {_figure(limits.points)})"


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def _word(*, passed: bool) -> str:
    return "pass" if passed else "FAIL"


def _cache_json(report: CacheReport) -> dict[str, Any]:
    return {
        "photos": [str(path) for path in report.photos],
        "checks": [
            {
                "group": check.group,
                "check": check.name,
                "nll": check.found.nll,
                "points": check.found.points,
                "same_bits": check.found.same_bits,
                "noise": {"nll": check.limits.noise.nll, "points": check.limits.noise.points},
                "limit": {"nll": check.limits.nll, "points": check.limits.points},
                "at_least": check.least_nll,
                "passed": check.passed,
                "problem": check.problem or None,
                "skipped": check.skipped or None,
            }
            for check in report.checks
        ],
    }
