"""Write pocket's model card; every figure in it comes from the evaluation's JSON, every source from the provenance.

    python -m aesedge_export.pocket.card --checkpoint DIR --figures evaluation.json --out MODEL_CARD.md

It knows what must be said about the model; it measures nothing.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import faults
from .crops import IMAGE_SIZE
from .figures import GOALS, headline
from .scenes import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHANCE = 0.5
NAMED_FROM = 0.5
"""A fault is said to be named from this share of strong cases on."""

TEXT = """# pocket

A small model with AesExpert's architecture (LLaVA-1.5: CLIP vision tower, two-layer projector, Llama), made for
aesedge from random weights. It looks at a photo, says in plain English which technical faults it sees, and rates it
High, Medium or Low.

## What it can judge

Trained on faults of taking and storing a photo. By the figures below, when they are strong:

{abilities}

It grades what it names (slight, clear, severe) and says what to do next time. Of what is there beside faults it was
taught plain looks only: bright or dark, warm or cool, vivid or muted.

## What it cannot judge

- **It has not been taught taste by people.** No human rating went into it. Its score is its opinion of how little a
  photo is spoilt, not a mean opinion score, and it is not AesExpert and must not be presented as such.
- It does not know what a photo shows, who is on it, or what it makes people feel. Asked, it says that it can't tell.
- Of composition it was taught, beside tilt, four things, on scenes that a script put together: a subject that is cut
  off, cluttered borders, a subject in the centre or on a third.
  {composition}
{warnings}
{answers}
- It sees {size} by {size} pixels: the long side of a photo is brought to {size}. Faults that are not visible at that
  size are invisible to it, and a photo much smaller than that looks to it like one of low resolution.
- Blur, darkness, brightness or grain that the photographer wanted look like faults to it.
- It was trained on few photographs, mostly daylight pictures of buildings, animals, tools and landscapes.

## Training

{training}

## Sources

{n_photos} photographs with free licences, each listed with file, author, licence and hash in
`export/pocket/provenance.json`; split by source photograph, near-duplicates together. Whole sources kept out of
training: {held_out}.

{sources}

{subjects}

## Figures

Measured on {n_test} photographs that training never saw, each with its long side at 480 pixels; 95 % intervals from
drawing whole photographs anew. A pair is an original against the same photo with one fault; it is ranked rightly when
the original's score is higher. Moderate / strong: {strengths}.

{goals}

{figures}

### Does the score mean something?

{calibration}

### The same with other types, precisions and numbers of image tokens

{settings}

### The same pairs, ranked by plain measures instead

{baselines}

Size and speed stand in `aesedge info pocket` and docs/speed.md.
"""


def percent(figure: Mapping[str, float]) -> str:
    """Return a share with its interval."""
    return f"{100 * figure['value']:.1f} % [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"


def abilities_text(figures: Mapping[str, Any]) -> str:
    """Sort the faults by what the figures say of them: named, only felt in the score, or missed."""
    named = figures.get("fault named in the critique", {})
    kinds: dict[str, list[str]] = {"named": [], "felt": [], "missed": []}
    for fault in faults.FAULTS:
        if named and named[f"{fault}, strong"]["value"] >= NAMED_FROM:
            kinds["named"].append(fault)
        elif figures["pairs"][f"{fault}, strong"]["low"] > CHANCE:
            kinds["felt"].append(fault)
        else:
            kinds["missed"].append(fault)
    texts = {
        "named": "It names, in most cases",
        "felt": "It lowers the score for, but mostly does not name (or takes for another fault)",
        "missed": "It cannot be said to notice",
    }
    return "\n".join(f"- {texts[kind]}: {', '.join(found)}." for kind, found in kinds.items() if found)


def warnings_text(figures: Mapping[str, Any]) -> str:
    """Say how often the critique is wrong."""
    if "clean photographs called faulty" not in figures:
        return "- Its critiques have not been measured."
    alarms = percent(figures["clean photographs called faulty"])
    wrong = percent(figures["absent fault named in the critique of a spoilt photograph"]["all, all"])
    return f"- It names faults that are not there: in {alarms} of clean and {wrong} of spoilt photographs."


def answers_text(figures: Mapping[str, Any]) -> str:
    """Say how often short questions are answered rightly."""
    kinds = {name: figures[name] for name in figures if "answered rightly" in name}
    if not kinds:
        return "- Its answers to yes/no and multiple choice questions have not been measured."
    told = ", ".join(f"{name} {percent(figure)}" for name, figure in kinds.items())
    return f"- It can be asked short questions about faults, and is not always right: {told}."


def composition_text(figures: Mapping[str, Any]) -> str:
    """Say how often each trait of a scene is told where it is there, and where it is not."""
    found = figures.get("composition of scenes")
    if not found:
        return "How well it learnt them has not been measured."
    told = ", ".join(
        f"{name} in {100 * found[f'{name}, there']['value']:.0f} % where it is so and "
        f"{100 * found[f'{name}, not there']['value']:.0f} % where it is not" for name in LAYOUT
    )  # fmt: skip
    n = sum(found[f"{LAYOUT[0]}, {kind}"]["n"] for kind in ("there", "not there"))
    if not any(figure["value"] for figure in found.values()):
        return f"It did not learn to tell them apart, and says nothing about them ({n} scenes of new subjects)."
    return (f"Of {n} scenes of subjects and backgrounds it never saw, it says: {told}. Of ordinary photographs nobody "
            "knows how often it is right.")  # fmt: skip


def goals_table(figures: Mapping[str, Any]) -> str:
    """Return what was wanted and what was reached."""
    lines = ["| | wanted | reached |", "| --- | --- | --- |"]
    for name, figure in headline(figures).items():
        sign = "at most" if name == "clean called faulty" else "at least"
        wanted = f"{sign} {100 * GOALS[name]:.0f} %" if name in GOALS else ""
        lines.append(f"| {name} | {wanted} | {percent(figure)} |")
    return "\n".join(lines)


def calibration_text(figures: Mapping[str, Any]) -> str:
    """Return how the score falls with strength, and what was to be said where it says something."""
    parts = []
    if fell := figures.get("score falls with strength"):
        each = ", ".join(f"{fault} {fell[fault]['value']:.2f}" for fault in faults.FAULTS)
        parts.append(
            "Rank correlation of strength with the fall of the score, six strengths from none to the greatest, mean "
            f"over photographs: {fell['all']['value']:.2f} ({each})."
        )
    found = figures["calibration"]
    parts.append(
        f"Expected calibration error: {found['expected error of the score']:.2f} points of 10, with the faults behind "
        f'"all" too {figures["calibration, all faults"]["expected error of the score"]:.2f}. What the strengths stand '
        "for, in the mean, where the score lies in a class:"
    )
    lines = ["| score | mean score | what it should have been | pictures |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {c['from']:g} to {c['to']:g} | {c['score']:.1f} | {c['true']:.1f} | {c['n']} |" for c in found["classes"]
    ]
    parts.append("\n".join(lines))
    return "\n\n".join(parts)


def settings_table(figures: Mapping[str, Any]) -> str:
    """Return the main figures of every setting."""
    settings = figures.get("settings", {})
    if len(settings) < 2:
        return "Not measured."
    tables = {name: headline(of_one) for name, of_one in settings.items()}
    rows = list(next(iter(tables.values())))
    lines = ["| setting | " + " | ".join(rows) + " |", "| --- |" + " --- |" * len(rows)]
    for name, table in tables.items():
        cells = [f"{100 * table[row]['value']:.1f} %" if row in table else "" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sources_table(provenance: Sequence[Mapping[str, str]]) -> str:
    """Return the packages, how many photographs each gave, and under which licences."""
    lines = ["| package | version | photographs | licences |", "| --- | --- | --- | --- |"]
    for package, version in sorted({(p["package"], p["version"]) for p in provenance}):
        mine = [p for p in provenance if p["package"] == package]
        splits = Counter(p["split"] for p in mine)
        counts = ", ".join(f"{n} {split}" for split, n in sorted(splits.items()))
        licences = ", ".join(name for name, _ in Counter(p["licence"] for p in mine).most_common())
        lines.append(f"| {package} | {version} | {counts} | {licences} |")
    return "\n".join(lines)


def subjects_text(checkpoint: Path) -> str:
    """Return where the subjects of the scenes come from."""
    path = checkpoint / "cutouts.json"
    if not path.exists():
        return "No scenes were made."
    found = json.loads(path.read_text("utf-8"))
    splits = Counter(p["split"] for p in found)
    counts = ", ".join(f"{n} {split}" for split, n in sorted(splits.items()))
    kinds = sorted({(p["package"], p["version"], p["licence"]) for p in found})
    named = "; ".join(f"{package} {version} ({licence})" for package, version, licence in kinds)
    return (f"The subjects of the scenes are {len(found)} photographic stamps of {named}: {counts}; listed in\n"
            "`export/pocket/cutouts.json`.")  # fmt: skip


def figures_table(figures: Mapping[str, Any]) -> str:
    """Return the figures per fault, and what concerns clean photographs."""
    pairs, named = figures["pairs"], figures.get("fault named in the critique")
    lines = [
        "| fault | pairs, moderate | pairs, strong | named, moderate | named, strong |",
        "| --- | --- | --- | --- | --- |",
    ]
    for fault in (*faults.MAIN_FAULTS, "all", *faults.MORE_FAULTS, "all others"):
        cells = [percent(table[f"{fault}, {level}"]) if table else "not measured"
                 for table in (pairs, named) for level in ("moderate", "strong")]  # fmt: skip
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    whole = percent(figures["pairs of whole sources kept out"]["all, all"])
    lines += ["", f"All pairs: {percent(pairs['all, all'])}. Of the sources that were kept out as a whole: {whole}."]
    if named:
        lines.append(f"Clean photographs called faulty: {percent(figures['clean photographs called faulty'])}.")
        lines.append(f"Critiques that end by themselves, whose sentences are all word for word as taught, none twice: "
                     f"{percent(figures['well formed critiques'])}.")  # fmt: skip
    if formed := figures.get("well formed texts"):
        each = ", ".join(f"{path} {percent(figure)}" for path, figure in formed.items())
        lines.append("Texts that are plain English in form (whole sentences of dictionary words, none twice), on every "
                     f"path on which text comes out: {each}.")  # fmt: skip
    clean = figures["score of clean photographs"]
    lines.append(f"Mean score of clean photographs: {clean['value']:.1f} [{clean['low']:.1f}, {clean['high']:.1f}].")
    return "\n".join(lines)


def baselines_table(baselines: Mapping[str, Any]) -> str:
    """Return how plain measures rank the same pairs."""
    lines = ["| measure | moderate | strong | all |", "| --- | --- | --- | --- |"]
    for name, table in baselines.items():
        cells = [percent(table[f"all, {level}"]) for level in ("moderate", "strong", "all")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def training_text(record: Mapping[str, Any]) -> str:
    """Return how the checkpoint came about."""
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in record["seconds"].items())
    text = (
        f"On {record.get('machine', 'CPU')}, seed {record['seed']}: {record['photographs']['train']} photographs, "
        f"{record['n_crops']} crops in six versions each. Time per stage: {seconds}."
    )
    return text + (f" {record['note']}" if record.get("note") else "")


def strengths_text() -> str:
    """Return the physical size of each fault at both levels."""
    units = {
        "tilt": "degrees", "underexposure": "EV", "overexposure": "EV", "low contrast": "times the contrast",
        "color cast": "red against blue", "defocus": "px sigma", "motion": "px", "noise": "of 255, standard deviation",
        "low resolution": "times fewer pixels a side", "jpeg": "JPEG quality", "vignetting": "EV in the corners",
        "lens tilt": "of the width lost at one end", "clipped highlights": "of the pixels white",
        "over-saturation": "times the color",
    }  # fmt: skip
    return "; ".join(f"{f} {faults.SCALES[f][1]:g} / {faults.SCALES[f][2]:g} {units[f]}" for f in faults.FAULTS)


def write_card(checkpoint: Path, figures: Mapping[str, Any]) -> str:
    """Return the card of a checkpoint folder with its measured figures."""
    provenance = json.loads((checkpoint / "provenance.json").read_text("utf-8"))
    record = json.loads((checkpoint / "training.json").read_text("utf-8"))
    held_out = sorted({p["package"] for p in provenance if all(
        q["split"] == "test" for q in provenance if q["package"] == p["package"])})  # fmt: skip
    return TEXT.format(
        abilities=abilities_text(figures), warnings=warnings_text(figures), size=IMAGE_SIZE,
        answers=answers_text(figures), composition=composition_text(figures), subjects=subjects_text(checkpoint),
        goals=goals_table(figures), calibration=calibration_text(figures),
        settings=settings_table(figures),
        training=training_text(record), n_photos=len(provenance),
        held_out=", ".join(held_out), sources=sources_table(provenance), n_test=figures["n_photos"],
        strengths=strengths_text(), figures=figures_table(figures), baselines=baselines_table(figures["baselines"]),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True, help="JSON that evaluate.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    figures = json.loads(options.figures.read_text("utf-8"))
    options.out.write_text(write_card(options.checkpoint, figures), "utf-8")


if __name__ == "__main__":
    main()
