"""Draw a result: where a photo's time goes, and what share of the ceilings the language model reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aesedge.bench.number_format import digits, parameters, rate_text, time_text, words
from aesedge.bench.plot import COLORS, clean, new_figure, tidy
from aesedge.bench.result import RANDOM_WEIGHTS
from aesedge.bench.tables import machine_name, part_name
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bench.plot import Axes
    from aesedge.bench.result import Card, Result, Row

_PARTS = {
    "decode_image_s": COLORS[4],
    "vision_s": COLORS[1],
    "prefill_s": COLORS[0],
    "first_token_s": COLORS[2],
    "decode_s": COLORS[3],
}
_WHOLE, _SHARE, _EMPTY = COLORS[6], COLORS[7], "#ececec"
_ROOM_FOR_TEXT = 1.6
"""How far an axis goes, in lengths of the longest bar: what is said stands behind the bars."""


@dataclass(frozen=True)
class _Bar:
    name: str
    pieces: Sequence[tuple[str, float]]
    """Colours and lengths."""
    said: str
    reach: float = 0.0
    """Length that it could have; 0 where nobody knows."""


def save_chart(result: Result, path: Path) -> None:
    """Draw a result as PNG, whole or not at all.

    Raises:
        UsageError: nothing of what was measured can be drawn.
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    panels = {
        "Where a photo's time goes: to the first token (ttft) by what is cached, and whole photos (medians, s)": _times(
            result.rows
        ),
        "Language model: rate, and share of the measured ceiling (%)": _shares(result.rows),
    }
    drawn = {title: bars for title, bars in panels.items() if bars}
    if not drawn:
        raise UsageError(f"{path}: nothing was measured that could be drawn")
    lengths = [len(bars) + 1 for bars in drawn.values()]
    with new_figure(path, width=1280, height=150 + 42 * sum(lengths)) as figure:
        figure.suptitle(_title(result.card), x=0.01, ha="left")
        places = figure.subplots(len(drawn), squeeze=False, height_ratios=lengths)[:, 0]
        for axes, (title, bars) in zip(places, drawn.items(), strict=True):
            _panel(axes, title, bars)
        state = "" if result.complete else "; incomplete: interrupted"
        footer = f"aesedge {result.card.aesedge}, {result.card.started_at[:10]}; rates: mean ± standard deviation"
        figure.supxlabel(clean(footer + state, 140), x=0.01, ha="left", fontsize="small")


def _title(card: Card) -> str:
    random = f" ({RANDOM_WEIGHTS} of shape {card.random_weights})" if card.random_weights else ""
    facts = [
        card.bundle, f"{parameters(card.model_n_params)} parameters", f"vision {card.plan.get('vision', '-')}",
        f"{card.plan.get('n_image_tokens', '-')} image tokens", f"{card.plan.get('threads', '-')} threads",
        machine_name(card), card.backend,
    ]  # fmt: skip
    return f"{clean(card.model_type + random, 100)}\n{clean(', '.join(dict.fromkeys(facts)), 130)}"


def _panel(axes: Axes, title: str, bars: Sequence[_Bar]) -> None:
    longest = max(max(bar.reach, sum(length for _, length in bar.pieces)) for bar in bars) or 1.0
    for y, bar in enumerate(bars):
        axes.barh(y, bar.reach, color=_EMPTY)
        end = 0.0
        for color, length in bar.pieces:
            axes.barh(y, length, left=end, color=color)
            end += length
        axes.text(max(end, bar.reach) + longest / 100, y, clean(bar.said, 60), va="center")
    axes.set_title(title, loc="left", fontsize="medium")
    axes.set_yticks(range(len(bars)), [clean(bar.name, 24) for bar in bars])
    axes.set_xlim(0, longest * _ROOM_FOR_TEXT)
    axes.invert_yaxis()
    if any(bar.reach for bar in bars):
        axes.set_xticks(range(0, 101, 20))
    tidy(axes)
    used = {color for bar in bars for color, _ in bar.pieces}
    named = {part_name(name): color for name, color in _PARTS.items() if color in used}
    if named and _WHOLE in used:
        named["a whole photo, of several in a row"] = _WHOLE
    for name, color in named.items():
        axes.barh(0, 0, color=color, label=name)
    if named:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(named), frameon=False)


def _times(rows: Sequence[Row]) -> list[_Bar]:
    """Return what users wait for: the first token by what is cached, and whole photos one after the other."""
    bars = []
    for row in rows:
        if row.group != "photo" or not row.samples_ns or not (row.cache_state or row.unit == "photos"):
            continue
        seconds = row.median_s / (row.n if row.unit and row.n else 1)
        pieces = [(_PARTS.get(name, _WHOLE), value) for name, value in row.parts_s.items()]
        said = time_text(seconds) + (f"; {' ± '.join(rate_text(row))} {row.rate_unit}" if row.unit else "")
        bars.append(_Bar(row.test, pieces or [(_WHOLE, seconds)], said))
    return bars


def _shares(rows: Sequence[Row]) -> list[_Bar]:
    """Return the rates of the language model, each as long as the share of the ceiling that it reaches."""
    bars = []
    for row in rows:
        if row.group != "language" or not row.samples_ns:
            continue
        rate = f"{' ± '.join(rate_text(row))} {row.rate_unit}"
        if row.percent_of:
            ceiling, percent = max(row.percent_of.items(), key=lambda share: share[1])
            said = f"{rate}; {digits(percent, 2)} % of {words(ceiling)}"
            bars.append(_Bar(row.test, [(_SHARE, min(percent, 100.0))], said, reach=100.0))
        else:
            bars.append(_Bar(row.test, [], rate))
    return bars
