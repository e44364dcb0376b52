"""The result of a benchmark run, and its JSON file.

Names are llama-bench's where it has one (tools/llama-bench/llama-bench.cpp): ``pp576`` prefills 576 tokens, ``tg128 @
d640`` decodes 128 one by one behind 640, ``samples_ns`` are the repetitions, ``avg_ts`` units a second.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from aesedge.engine.results import CacheState
from aesedge.errors import UsageError
from aesedge.system.atomic_file import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT = 1
RANDOM_WEIGHTS = "random weights"
"""What a manifest calls the checkpoint of a bundle that was made for benchmarks (``aesedge_export.random_weights``)."""
Group = Literal["load", "image", "language", "photo", "memory"]
Unit = Literal["t", "photos", "questions", "MP", ""]


class Row(msgspec.Struct, kw_only=True):
    """One test and the time of each repetition; statistics are calculated from those."""

    test: str
    """Its name; the same test has the same name in every run."""
    group: Group
    n: float = 1
    """Units of work in a repetition."""
    unit: Unit = ""
    """What is counted; empty where only the time is of interest."""
    per_minute: bool = False
    """Whether its rate is shown by the minute."""
    n_prompt: int = 0
    n_gen: int = 0
    n_depth: int = 0
    n_written: float | None = None
    """Mean tokens of a text, where it may end before ``n_gen``."""
    n_parallel: int = 1
    """Sequences that decode at the same time (llama-batched-bench's B)."""
    cache_state: CacheState | None = None
    """What the caches held of the photo."""
    samples_ns: list[int] = []
    """Repetitions in the order in which they ran; empty in the group ``memory``."""
    n_warm_up: int = 0
    n_bytes: int | None = None
    """For the group ``memory``."""
    parts_s: dict[str, float] = {}
    """Medians of the parts of the time."""
    watts: float | None = None
    """Mean power while it ran."""
    percent_of: dict[str, float] = {}
    """Measured ceiling to the share of it that the median reaches, in percent."""
    excludes: str = ""
    """What is not in the time."""

    @property
    def median_s(self) -> float:
        """Median of the repetitions."""
        return statistics.median(self.samples_ns) / 1e9

    @property
    def p95_s(self) -> float:
        """95th percentile, by linear interpolation; of few repetitions it is near the largest."""
        return percentile(self.samples_ns, 0.95) / 1e9

    @property
    def avg_ns(self) -> float:
        """Mean."""
        return statistics.fmean(self.samples_ns)

    @property
    def stddev_ns(self) -> float:
        """Standard deviation of the sample; 0 of a single one, as in llama-bench."""
        return statistics.stdev(self.samples_ns) if len(self.samples_ns) > 1 else 0.0

    @property
    def samples_ts(self) -> list[float]:
        """Units a second, or a minute, of every repetition."""
        return [self.n * 1e9 * (60 if self.per_minute else 1) / ns for ns in self.samples_ns]

    @property
    def avg_ts(self) -> float:
        """Mean rate."""
        return statistics.fmean(self.samples_ts)

    @property
    def stddev_ts(self) -> float:
        """Standard deviation of the rates."""
        return statistics.stdev(self.samples_ts) if len(self.samples_ts) > 1 else 0.0

    @property
    def rate_unit(self) -> str:
        """``t/s``, for example; empty where there is no rate."""
        return f"{self.unit}/{'min' if self.per_minute else 's'}" if self.unit else ""


class Against(msgspec.Struct, kw_only=True):
    """The same work by another program, in turns."""

    test: str
    what: str
    """What both sides did."""
    ours_ns: list[int]
    theirs_ns: list[int]
    """One for each of ours, measured right before or after it."""

    @property
    def ratios(self) -> list[float]:
        """How many times as fast we are, pair by pair."""
        return [theirs / ours for ours, theirs in zip(self.ours_ns, self.theirs_ns, strict=True)]

    @property
    def ratio(self) -> float:
        """Median of the pairs."""
        return statistics.median(self.ratios)


class Quality(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the measured setting changes in scores and texts, against the bundle's reference."""

    setting: str
    reference: str
    """The most precise that the bundle has: types, image tokens, KV cache."""
    score_drift: float
    """Mean change of the score and the attributes' scores, in points of 10."""
    worst_score_drift: float
    """Largest mean change of a photo."""
    nll_change: float
    """Mean change of the negative log-likelihood of what the reference wrote, in nats a token."""
    n_photos: int
    note: str = ""


class Prediction(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What another type or number of image tokens would take, by calculation."""

    gguf: str
    vision: str
    n_image_tokens: int
    score_s: float
    """Seconds for a new photo's score."""
    critique_s: float
    """Seconds for a new photo's score and a text of ``n_gen`` tokens."""
    n_gen: int
    basis: str
    """What it was calculated from."""


class RunInfo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What holds for every row."""

    started_at: str
    """Date and time, UTC."""
    took_s: float = 0.0
    aesedge: str
    """Version, and commit where it runs from a clone."""
    hardware: dict[str, Any]
    libraries: dict[str, Any]
    bundle: str
    random_weights: str = ""
    """Shape of the bundle where its weights are random numbers and its answers mean nothing."""
    files: list[dict[str, Any]]
    """Role, type, name, bytes and SHA-256 of what was loaded."""
    recommended: str = ""
    """The setting that the bundle's manifest recommends, and why."""
    model_type: str
    """As llama.cpp names it: ``llama 7B Q4_K - Medium``."""
    model_size: int
    """Bytes of the language model's tensors."""
    model_n_params: int
    bytes_per_token: int
    """Weights that decoding a token reads."""
    macs_per_token: int
    """Multiplications that prefilling a token takes in matrix products, without attention."""
    kv_bytes_per_position: int
    """Keys and values that decoding a token reads for every position before it."""
    backend: str
    """Where the language model runs."""
    plan: dict[str, Any]
    """Settings: :class:`aesedge.config.plan.Plan`, with what was opened."""
    photos: list[dict[str, Any]]
    """Name, size in pixels, SHA-256."""
    ceilings: dict[str, Any]
    power: str
    """What the watts were read from, or why there are none."""
    disturbances: list[dict[str, Any]]
    repetitions: int
    seconds: float
    """What the rows were allowed to take together."""


class Result(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A run."""

    format: int = FORMAT
    ok: bool = True
    """False if it was interrupted: it holds what had been measured by then."""
    card: RunInfo
    rows: list[Row]
    quality: Quality | None = None
    reference: str = ""
    """The program that ``against`` is about, with version."""
    against: list[Against] = []
    predictions: list[Prediction] = []
    kernels: dict[str, Any] | None = None
    """Figures of the native kernels: ``KernelReport`` of kernels_bench/kernel_report.py."""
    notes: list[str] = []
    """What was left out, and why."""


class _Format(msgspec.Struct):
    format: int = 0


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile, interpolated linearly between neighbours."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * share
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def load_result(path: Path) -> Result:
    """Read a result.

    Raises:
        UsageError: it cannot be read, or is no result of this format version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from None
    try:
        found = msgspec.json.decode(data, type=_Format).format
    except msgspec.MsgspecError:
        raise UsageError(f"{path}: no result of 'aesedge bench'; write one with --format json -o FILE") from None
    if found != FORMAT:
        raise UsageError(
            f"{path}: a result of format {found}; this aesedge reads format {FORMAT}: measure again, or use the "
            "aesedge that wrote it"
        )
    try:
        built = msgspec.json.decode(data)
        if "complete" in built:  # the name of ``ok`` in files written by 0.1 development versions
            built["ok"] = built.pop("complete")
        result = msgspec.convert(built, Result)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path}: not a whole result of 'aesedge bench': {error}") from None
    sides = [side for pair in result.against for side in (pair.ours_ns, pair.theirs_ns)]
    if min((ns for side in [*sides, *(row.samples_ns for row in result.rows)] for ns in side), default=1) < 1:
        raise UsageError(f"{path}: a repetition of less than a nanosecond; the file was altered: measure again")
    if any(len(pair.ours_ns) != len(pair.theirs_ns) for pair in result.against):
        raise UsageError(f"{path}: turns of one side are missing; the file was altered: measure again")
    return result


def save_result(result: Result, path: Path) -> None:
    """Write a result, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    write_atomic(path, result_json(result).encode() + b"\n")


def result_json(result: Result) -> str:
    """Return a result as its file has it, with the statistics beside the samples; reading it leaves those out."""
    built = msgspec.to_builtins(result)
    for written, row in zip(built["rows"], result.rows, strict=True):
        if row.samples_ns:
            written |= {"avg_ns": row.avg_ns, "stddev_ns": row.stddev_ns}
            written |= {"median_ns": row.median_s * 1e9, "p95_ns": row.p95_s * 1e9}
            if row.unit:
                written |= {"samples_ts": row.samples_ts, "avg_ts": row.avg_ts, "stddev_ts": row.stddev_ts}
    for written, pair in zip(built["against"], result.against, strict=True):
        if pair.ours_ns:
            written |= {"ratios": pair.ratios, "ratio": pair.ratio}
    return msgspec.json.format(msgspec.json.encode(built), indent=2).decode()
