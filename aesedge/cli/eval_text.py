"""Show evaluations on a terminal, and in reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from aesedge.cli.terminal import bold, dim, shown, table

if TYPE_CHECKING:
    from aesedge.eval.benchmark import Scores
    from aesedge.eval.ratings import Agreement
    from aesedge.eval.ratings_table import RatingsTable


def ratings_text(found: Agreement, read: RatingsTable, title: str) -> str:
    """Return the agreement with people as a terminal shows it."""
    low, high = read.scale
    columns = f"columns {read.columns[0]!r} and {read.columns[1]!r}, scores out of {low:g} to {high:g}"
    rows = [
        ["photographs", str(found.n)],
        ["SRCC", str(found.srcc)],
        ["PLCC, logistic fit", str(found.plcc)],
        ["Pearson, as they are", str(found.pearson)],
        ["Kendall's tau", f"{found.kendall:.3f}"],
        ["score minus opinion", f"{found.mean_error:+.2f} points of 10, {found.mean_absolute_error:.2f} absolute"],
    ]
    pairs = [[f"{p.low:g} to {p.high:g}", f"{p.n_pairs:,}", _percent(p.share)] for p in found.pairs]
    tenths = [[f"{c.score:.2f}", f"{c.opinion:.2f}", str(c.n)] for c in found.calibration]
    parts = [
        f"{bold(shown(title))}\n{dim(shown(columns))}\n{table(rows)}",
        f"{bold('Pairs in the right order')}, by how far people's ratings are apart\n"
        + table(pairs, header=["points of 10", "pairs", "right"]),
        f"{bold('Calibration')}, means of tenths of the photographs\n{table(tenths, header=['score', 'people', 'n'])}",
    ]
    if found.attributes:
        attributes = [[shown(name), str(value)] for name, value in found.attributes.items()]
        parts.append(f"{bold('Attributes')}, rank correlation with people's ratings\n{table(attributes)}")
    return "\n\n".join(parts)


def aesbench_text(found: Scores, title: str, n: int) -> str:
    """Return accuracies by task, and the assessment's confusion."""
    from aesedge.eval.aesbench import LEVELS

    heading = bold(shown(f"{title}: {n:,} questions of AesBench"))
    rows = [
        [
            task, shown(group) or "all", str(one.n), _percent(one.n_by_text / one.n),
            _percent(one.n_by_probability / one.n), str(one.n_unclear),
        ]
        for (task, group), one in sorted(found.groups.items())
    ]  # fmt: skip
    if not rows:
        return f"{heading}\nNo right answers are known: the replies are in the response files (--out)."
    parts = [f"{heading}\n" + table(rows, header=["task", "", "n", "by text", "by probability", "unclear"])]
    if found.confusion:
        most_frequent = f"the most frequent level alone would have {_percent(found.majority)}"
        confusion = [[right, *(str(found.confusion[right, said]) for said in LEVELS)] for right in LEVELS]
        parts.append(
            f"{bold('Assessment')}, by probability; {most_frequent}\n"
            + table(confusion, header=["people \\ model", *LEVELS])
        )
    return "\n\n".join(parts)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{share:.1%}"
