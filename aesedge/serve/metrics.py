"""Counters and histograms in Prometheus' text format, under vLLM's names after ``aesedge:``.

Source: vLLM, ``docs/design/metrics.md``. What a photo scored is not counted: it would tell about its owner.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aesedge.serve.question import Outcome

_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0)
_HISTOGRAMS = {
    "time_to_first_token_seconds": "From a request's arrival to its first token, waiting included.",
    "inter_token_latency_seconds": "Between two tokens of an answer, on its average.",
    "e2e_request_latency_seconds": "From a request's arrival to its end.",
    "request_queue_time_seconds": "How long requests waited for a place.",
    "request_prefill_time_seconds": "Prefill of image and text.",
    "request_decode_time_seconds": "From the first token to the last.",
}
_COUNTERS = {
    "prompt_tokens_total": "Positions of images and texts that were asked about.",
    "generation_tokens_total": "Tokens that were generated.",
    "prefix_cache_queries": "Positions that were looked up in the KV cache.",
    "prefix_cache_hits": "Positions that were found there.",
}


class _Histogram:
    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS_S) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(_BUCKETS_S, value)] += 1
        self.total += value

    def lines(self, name: str, label: str) -> Iterator[str]:
        seen = 0
        for bound, count in zip((*map(str, _BUCKETS_S), "+Inf"), self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{{label},le="{bound}"}} {seen}'
        yield f"{name}_sum{{{label}}} {self.total:.6f}"
        yield f"{name}_count{{{label}}} {seen}"


class Metrics:
    """What a server has done since it started. All of it happens on the event loop's thread."""

    def __init__(self) -> None:
        self._histograms = {name: _Histogram() for name in _HISTOGRAMS}
        self._counters = Counter[str]()
        self._finished = Counter[str]()
        self._photos = Counter[str]()
        self._refused = Counter[int]()

    def done(self, outcome: Outcome, *, waited_s: float, ttft_s: float | None) -> None:
        """Count an answered request."""
        self._counters["prompt_tokens_total"] += outcome.n_prompt
        self._counters["generation_tokens_total"] += outcome.n_generated
        self._counters["prefix_cache_queries"] += outcome.n_prompt
        self._counters["prefix_cache_hits"] += outcome.n_cached
        self._finished.update(outcome.reasons or ["stop"])
        if outcome.result is not None:
            self._photos[outcome.result["cache"]] += 1
        times = {
            "request_queue_time_seconds": waited_s,
            "e2e_request_latency_seconds": outcome.total_s,
            "request_prefill_time_seconds": outcome.prefill_s,
        }
        if ttft_s is not None:
            times["time_to_first_token_seconds"] = ttft_s
            times["request_decode_time_seconds"] = outcome.generate_s
            n_gaps = outcome.n_generated - len(outcome.texts)
            if n_gaps > 0:
                times["inter_token_latency_seconds"] = outcome.generate_s / n_gaps * len(outcome.texts)
        for name, seconds in times.items():
            self._histograms[name].add(seconds)

    def gone(self) -> None:
        """Count a request whose client went away."""
        self._finished["abort"] += 1

    def refused(self, status: int) -> None:
        """Count a request that was answered with an error."""
        self._refused[status] += 1

    def text(self, model: str, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return all of it.

        Args:
            model: the label.
            gauges: name to help text and present value.
        """
        label = f'model_name="{model}"'
        return "".join(f"{line}\n" for line in self._lines(label, gauges))

    def _lines(self, label: str, gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
        for name, (told, value) in gauges.items():
            yield from _head(name, told, "gauge")
            yield f"aesedge:{name}{{{label}}} {value:g}"
        for name, told in _COUNTERS.items():
            yield from _head(name, told, "counter")
            yield f"aesedge:{name}{{{label}}} {self._counters[name]}"
        labelled: tuple[tuple[str, str, str, Mapping[str, int] | Mapping[int, int]], ...] = (
            ("request_success_total", "Requests that ended, by how.", "finished_reason", self._finished),
            ("photos_total", "Answers about photos, by what was known of them.", "cache", self._photos),
            ("request_errors_total", "Requests that were refused or failed, by status.", "status", self._refused),
        )
        for name, told, key, counts in labelled:
            yield from _head(name, told, "counter")
            for kind, count in counts.items():
                yield f'aesedge:{name}{{{label},{key}="{kind}"}} {count}'
        for name, told in _HISTOGRAMS.items():
            yield from _head(name, told, "histogram")
            yield from self._histograms[name].lines(f"aesedge:{name}", label)


def _head(name: str, told: str, kind: str) -> Iterator[str]:
    yield f"# HELP aesedge:{name} {told}"
    yield f"# TYPE aesedge:{name} {kind}"
