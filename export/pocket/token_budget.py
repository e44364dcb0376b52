"""Measure what fewer image tokens cost pocket: every method of reduction, at every budget, on held-out photographs.

    python -m aesedge_export.pocket.token_budget --cache FOLDER --out budget.json [--plot budget.png]

Each method gets a graph of its own, made from the bundle's; what is compared is the reduction alone, on the same
pictures, the same language model and the same questions. It knows faults and methods by name; it does not know how a
method chooses, or how the judge works inside.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aesedge.bench.plot import Chart
from aesedge.bundle.bundle import open_bundle
from aesedge.image import preprocess
from aesedge.vision.encoder import EncodedImage
from aesedge.vision.tower import VisionTower

from ..vision.onnx_graph import Graph
from ..vision.reduction import METHODS, NONE, add_reduction, write_reduced
from ..vision.vision_fusion import optimize
from . import faults, photos
from .evaluate import versions_of
from .figures import Row, interval, pairs
from .judges import BundleJudge
from .language import named_faults

if TYPE_CHECKING:
    from collections.abc import Sequence

BUDGETS = (108, 72, 49, 36, 25, 16)
Setting = tuple[str, int]
"""Method and number of image tokens."""


class _Shown:
    """Stands where a model's eye is, and shows it rows that are there already."""

    def __init__(self, rows: npt.NDArray[np.float32], key: str) -> None:
        self._sight = EncodedImage(rows.astype(np.float16), key, cached=True, decode_image_s=0.0, vision_s=0.0)

    def encode(self, _source: object, *_n_image_tokens: int | None, name: str | None = None) -> EncodedImage:
        del name
        return self._sight


class Measurer:
    """One process's model and its towers.

    Args:
        bundle: name or folder.
        graphs: method to graph.
        settings: what to judge with.
        critiques: whether critiques are written too.
        options: how the bundle is opened.
    """

    def __init__(
        self, bundle: str, graphs: dict[str, Path], settings: Sequence[Setting], *, critiques: bool, **options: Any
    ) -> None:
        self.judge = BundleJudge(bundle, threads=1, cache="0", **options)
        self.settings, self.critiques = settings, critiques
        self.towers = {name: VisionTower(path, device="cpu", n_threads=1) for name, path in graphs.items()}
        self.n_seen = 0

    def photo(self, cache: Path, photo: photos.Photo, number: int) -> dict[Setting, list[Row]]:
        """Judge a photograph, clean and spoilt, with every setting."""
        pictures = list(versions_of(faults.fit(photos.load(cache, photo)), number, 1, which=faults.MAIN_FAULTS))
        model: Any = self.judge.model
        pixels = np.concatenate([preprocess(image, model.manifest.image) for _, _, image in pictures])
        found: dict[Setting, list[Row]] = {}
        for method, n in self.settings:
            rows = self.towers[method].encode_batch(pixels, n)
            found[method, n] = judged = []
            for (fault, level, image), of_one in zip(pictures, rows, strict=True):
                self.n_seen += 1
                model.internals.encoder = _Shown(of_one, f"{self.n_seen:064x}")
                score, text = self.judge.judge([image], critiques=self.critiques)[0]
                judged.append(Row(photo.name, photo.group, photo.package, fault, level, score, text, {}))
        return found


_MEASURER: list[Measurer] = []
"""Of this process, once it is open."""


def _open(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    _MEASURER.append(Measurer(*arguments, **options))


def _photo(cache: Path, photo: photos.Photo, number: int) -> dict[Setting, list[Row]]:
    return _MEASURER[0].photo(cache, photo, number)


def write_graphs(bundle: str, methods: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write a float32 graph for each method, and one without reduction."""
    opened = open_bundle(bundle)
    raw, plain = folder / "raw.onnx", folder / "plain.onnx"
    graph = Graph(opened.path("vision", "fp32"))
    add_reduction(graph, NONE)
    graph.save(raw)
    optimize(raw, plain)
    found = {NONE: plain}
    for method in methods:
        found[method] = folder / f"{method}.onnx"
        write_reduced(plain, found[method], method)
    return found


def measure(
    bundle: str,
    cache: Path,
    *,
    methods: Sequence[str],
    budgets: Sequence[int],
    split: str = "test",
    limit: int = 0,
    critiques: bool = True,
    n_workers: int = 1,
    **options: Any,
) -> dict[Setting, list[Row]]:
    """Judge every photograph of a split with all image tokens, and with every method and budget."""
    most = open_bundle(bundle).manifest.image_tokens.max
    settings = [(NONE, most), *((method, n) for method in methods for n in budgets if n < most)]
    sources = [p for p in photos.gather(cache) if p.split == split]
    sources = sources[: limit or len(sources)]
    found: dict[Setting, list[Row]] = {setting: [] for setting in settings}
    with tempfile.TemporaryDirectory() as folder:
        graphs = write_graphs(bundle, methods, Path(folder))
        given = ((bundle, graphs, settings), {"critiques": critiques, **options})
        fresh = multiprocessing.get_context("spawn")  # ONNX Runtime's threads do not survive a fork
        with ProcessPoolExecutor(n_workers, fresh, initializer=_open, initargs=given) as pool:
            caches, numbers = [cache] * len(sources), range(len(sources))
            for number, of_one in enumerate(pool.map(_photo, caches, sources, numbers)):
                for setting, rows in of_one.items():
                    found[setting].extend(rows)
                print(f"judged photograph {number + 1} of {len(sources)}", flush=True)
    return found


def summarise(found: dict[Setting, list[Row]]) -> list[dict[str, Any]]:
    """Return figures of every setting, and what they differ by from those with all image tokens.

    Differences are taken picture by picture, and whole photographs are drawn for their intervals.
    """
    (_, whole), *_ = found.items()
    groups = [r.group for r in whole]
    spoilt = [i for i, r in enumerate(whole) if r.fault]
    clean = [i for i, r in enumerate(whole) if not r.fault]
    reference, result = _outcomes(whole), []
    for (method, n), rows in found.items():
        figures: dict[str, Any] = {"method": method, "n_image_tokens": n}
        for name, values in _outcomes(rows).items():
            use = clean if name == "clean called faulty" else spoilt
            whose = [groups[i] for i in use]
            figures[name] = interval(values, whose)
            figures[f"{name}, change"] = interval([a - b for a, b in zip(values, reference[name], strict=True)], whose)
        drift = [abs(a.score - b.score) for a, b in zip(rows, whole, strict=True)]
        figures["score drift"] = interval(drift, groups)
        result.append(figures)
    return result


def _outcomes(rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return 1 for right and 0 for wrong, of each spoilt picture; of each clean one, 1 if it is called faulty."""
    found = {"pairs": [value for _, value in pairs(rows, lambda r: r.score)]}
    if any(r.critique for r in rows):
        found["named"] = [float(r.fault in named_faults(r.critique)) for r in rows if r.fault]
        found["clean called faulty"] = [float(bool(named_faults(r.critique))) for r in rows if not r.fault]
    return found


def print_table(result: Sequence[dict[str, Any]]) -> None:
    """Print one line for each setting, shares in percent."""

    def percent(figure: dict[str, float] | None, *, sign: str = "") -> str:
        if figure is None:
            return ""
        value, low, high = (100 * figure[key] for key in ("value", "low", "high"))
        return f"{value:{sign}5.1f} [{low:{sign}5.1f},{high:{sign}6.1f}]"

    print(f"{'method':10}{'N':>4}  {'pairs':21}{'change':22}{'named':21}{'change':22}{'clean faulty':21}drift")
    for r in result:
        cells = [
            percent(r["pairs"]),
            percent(r["pairs, change"], sign="+"),
            percent(r.get("named")),
            percent(r.get("named, change"), sign="+"),
            percent(r.get("clean called faulty")),
        ]
        columns = "".join(f"{cell:21} " if i % 2 else f"{cell:20} " for i, cell in enumerate(cells))
        print(f"{r['method']:10}{r['n_image_tokens']:4}  {columns}{r['score drift']['value']:.2f}")


def draw(result: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw pairs ranked rightly over image tokens, the best method on average first."""
    whole, *rest = ((r["method"], (r["n_image_tokens"], 100 * r["pairs"]["value"])) for r in result)
    lines = {m: sorted([whole[1], *(point for name, point in rest if name == m)]) for m in dict.fromkeys(dict(rest))}
    most = whole[1][1]
    Chart(
        title="pocket: pairs ranked rightly, held-out photographs (band: within 2 points of all image tokens)",
        x_label="image tokens",
        y_label="%",
        lines=dict(sorted(lines.items(), key=lambda line: -sum(y for _, y in line[1]))),
        log_x=True,
        band=(most - 2, most),
    ).save(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="folder that training filled")
    parser.add_argument("--bundle", default="pocket", help="bundle name or folder")
    parser.add_argument("--gguf", help="quantization type of the bundle's language model")
    parser.add_argument("--methods", default=",".join(METHODS), help="separated by commas")
    parser.add_argument("--tokens", default=",".join(map(str, BUDGETS)), help="numbers of image tokens")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--plot", type=Path, help="PNG file of the figures")
    splits = ("test", "validation")
    parser.add_argument("--split", choices=splits, default="test", help="validation is for choosing between methods")
    parser.add_argument("--limit", type=int, default=0, help="stop after this many photographs")
    parser.add_argument("--no-critiques", action="store_true", help="scores only")
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    options = parser.parse_args(arguments)
    found = measure(
        options.bundle,
        options.cache,
        methods=options.methods.split(","),
        budgets=[int(n) for n in options.tokens.split(",")],
        split=options.split,
        limit=options.limit,
        critiques=not options.no_critiques,
        n_workers=options.workers,
        **({"gguf": options.gguf} if options.gguf else {}),
    )
    result = summarise(found)
    print_table(result)
    options.out.write_text(json.dumps({"split": options.split, "figures": result}, indent=1), "utf-8")
    rows = [{"method": m, "n_image_tokens": n, **asdict(row)} for (m, n), of_one in found.items() for row in of_one]
    options.out.with_suffix(".rows.json").write_text(json.dumps(rows, indent=0), "utf-8")
    if options.plot:
        draw(result, options.plot)


if __name__ == "__main__":
    main()
