"""Draw a result: the parts of a photo's time, and the share of the ceilings that the language model reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aesedge.bench.number_format import digits, parameters, rate_text, time_text, words
from aesedge.bench.plot import COLORS, clean, new_figure, tidy
from aesedge.bench.result import RANDOM_WEIGHTS
from aesedge.bench.tables import machine_name, part_name
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from aesedge.bench.plot import Axes
    from aesedge.bench.result import Result, Row, RunInfo

_PARTS = dict(zip(("prefill_s", "vision_s", "first_token_s", "decode_s", "decode_image_s"), COLORS, strict=False))
_WHOLE, _SHARE, _EMPTY = COLORS[6], COLORS[7], "#ececec"
_ROOM_FOR_TEXT = 1.6
"""Length of an axis, in lengths of the longest bar: text stands behind the bars."""


class _Bar(NamedTuple):
    name: str
    pieces: Sequence[tuple[str, float]]
    """Colours and lengths."""
    text: str
    reach: float = 0.0
    """Length that it could have; 0 where that is unknown."""


def save_chart(result: Result, path: Path) -> None:
    """Draw a result as PNG, whole or not at all.

    Raises:
        UsageError: nothing of what was measured can be drawn.
        MissingExtraError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    times = "Where a photo's time goes: to the first token (ttft) by what is cached, and whole photos (medians, s)"
    shares = "Language model: rate, and share of the measured ceiling (%)"
    panels = {times: [_times(row) for row in result.rows if row.samples_ns and _is_waited_for(row)]}
    panels[shares] = [_shares(row) for row in result.rows if row.samples_ns and row.group == "language"]
    drawn = {title: bars for title, bars in panels.items() if bars}
    if not drawn:
        raise UsageError(f"{path}: nothing was measured that could be drawn")
    lengths = [len(bars) + 1 for bars in drawn.values()]
    with new_figure(path, width=1280, height=150 + 42 * sum(lengths)) as figure:
        figure.suptitle(_title(result.card), x=0.01, ha="left")
        places = figure.subplots(len(drawn), squeeze=False, height_ratios=lengths)[:, 0]
        for axes, (title, bars) in zip(places, drawn.items(), strict=True):
            _panel(axes, title, bars)
        state = "" if result.ok else "; incomplete: interrupted"
        footer = f"aesedge {result.card.aesedge}, {result.card.started_at[:10]}; rates: mean ± standard deviation"
        figure.supxlabel(clean(footer + state, 140), x=0.01, ha="left", fontsize="small")


def _title(card: RunInfo) -> str:
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
        axes.text(max(end, bar.reach) + longest / 100, y, clean(bar.text, 60), va="center")
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


def _is_waited_for(row: Row) -> bool:
    return row.group == "photo" and (row.cache_state is not None or row.unit == "photos")


def _times(row: Row) -> _Bar:
    """Return what users wait for: the first token, or one of several photos."""
    seconds = row.median_s / (row.n if row.unit and row.n else 1)
    pieces = [(_PARTS.get(name, _WHOLE), value) for name, value in row.parts_s.items()]
    text = time_text(seconds) + (f"; {' ± '.join(rate_text(row))} {row.rate_unit}" if row.unit else "")
    return _Bar(row.test, pieces or [(_WHOLE, seconds)], text)


def _shares(row: Row) -> _Bar:
    """Return a rate of the language model, as long as the share of the ceiling that it reaches."""
    rate = f"{' ± '.join(rate_text(row))} {row.rate_unit}"
    if not row.percent_of:
        return _Bar(row.test, [], rate)
    ceiling, percent = max(row.percent_of.items(), key=lambda share: share[1])
    text = f"{rate}; {digits(percent, 2)} % of {words(ceiling)}"
    return _Bar(row.test, [(_SHARE, min(percent, 100.0))], text, reach=100.0)
