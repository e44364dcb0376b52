"""The command ``doctor``: whether this machine can run a bundle, what would be faster, whether reuse is exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aesedge.bundle.bundle import open_bundle
from aesedge.cli import doctor_text
from aesedge.cli.exit_codes import FAILED
from aesedge.cli.options import Loading, Printing, with_options
from aesedge.cli.photos import sample_photos
from aesedge.cli.streams import print_json
from aesedge.cli.terminal import bold, dim, print_error, status
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bundle.bundle import Bundle
    from aesedge.config.options import Options
    from aesedge.doctor import Check
    from aesedge.doctor.advice import Advice
    from aesedge.doctor.libraries import Libraries
    from aesedge.system.hardware import Disk, Hardware
    from aesedge.system.measurement_noise import NoiseSource


@with_options(json="Print every check, with ok true or false, and what was found as one JSON object.")
def doctor(
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse",
            help="Check that reuse changes nothing and no photo answers for another (seconds with pocket, long at 7B).",
        ),
    ] = False,
    cache: Annotated[bool, typer.Option("--cache", hidden=True)] = False,
    photo: Annotated[
        list[str] | None,
        typer.Option(
            help="With --reuse: check on this photo or folder; repeatable.", show_default="two samples and a drawn one"
        ),
    ] = None,
    loading: Loading = Loading(),
    printing: Printing = Printing(),
) -> None:
    """Check whether this machine can run a bundle, and what would make it faster.

    It shows what the machine has, what the libraries were built with, and what disturbs measurements now. None of that
    makes the check fail. --reuse works in a temporary folder; your own cache is not touched.
    """
    if photo and not (reuse or cache):
        raise UsageError("--photo is what --reuse checks with; add --reuse")
    bundle = open_bundle(loading.bundle)
    photos = sample_photos(photo, printing)
    ok = (
        _check_reuse(bundle, loading.options, photos, printing)
        if reuse or cache
        else _check_machine(bundle, loading.options, printing)
    )
    if not ok:
        raise typer.Exit(FAILED)


def _check_machine(bundle: Bundle, options: Options, printing: Printing) -> bool:
    from aesedge.doctor import examine_machine

    with status(f"reading {bundle.name}", quiet=printing.quiet) as show:
        findings = examine_machine(bundle, options, show)
    ok = all(finding.passed for finding in findings)
    if printing.json:
        checks = [{"name": f.name, "found": f.found, "ok": f.passed} for f in findings]
        print_json({"bundle": bundle.name, "ok": ok, "checks": checks, **vars(_look_around(bundle, options, printing))})
        return ok
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
    print(bold(f"{'fit' if ok else 'NOT FIT'}: {bundle.name} on this machine"))
    if ok and not printing.quiet:
        print(dim("'aesedge doctor --reuse' checks that reuse is exact here"))
    return ok


@dataclass(frozen=True)
class _Surroundings:
    """What is worth knowing of the machine; a machine that could be faster is fit all the same."""

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


def _check_reuse(bundle: Bundle, options: Options, photos: Sequence[Path], printing: Printing) -> bool:
    from aesedge.doctor import CacheExamination

    with CacheExamination(bundle, options, photos) as examination:
        for name, step in examination.steps():
            with status(f"{bundle.name}: {name}", quiet=printing.quiet) as show:
                step(show)
        report = examination.report
    if printing.json:
        used, checks = [str(path) for path in report.photos], [_check_json(check) for check in report.checks]
        print_json({"bundle": bundle.name, "ok": report.passed, "photos": used, "checks": checks})
        return report.passed
    if not printing.quiet:
        print(doctor_text.reuse_table(report))
    for check in report.checks:
        if check.problem or check.skipped:
            print_error(f"{check.name}: {check.problem or f'not examined: {check.skipped}'}")
    print(bold(doctor_text.reuse_verdict(bundle.name, report)))
    return report.passed


def _check_json(check: Check) -> dict[str, Any]:
    found, limits = check.found, check.limits
    return {
        "group": check.group,
        "check": check.name,
        "nll": found.nll,
        "points": found.points,
        "same_bits": found.same_bits,
        "noise": {"nll": limits.noise.nll, "points": limits.noise.points},
        "limit": {"nll": limits.nll, "points": limits.points},
        "at_least": check.least_nll,
        "ok": check.passed,
        "problem": check.problem or None,
        "skipped": check.skipped or None,
    }
