"""Where the time of a photo, or of one answer, went."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Where the time of one photo, or of one answer, went."""

    decode_image_s: float = 0.0
    """Reading, decoding and preprocessing the file."""
    vision_s: float = 0.0
    prefill_s: float = 0.0
    """Image and questions, the critique's included."""
    ttft_s: float | None = None
    """From the call to the first token of text, everything before it included; null if no text was asked for."""
    generate_s: float = 0.0
    """From the first token of each text to its last."""
    total_s: float = 0.0
    n_prompt: int = 0
    """Prompt positions of all questions, the image counted for each."""
    n_reused: int = 0
    """Those of them that were taken from the KV cache instead of computed."""
    n_generated: int = 0


class TimingsRecorder:
    """Adds up timings, on the scheduler's thread.

    Args:
        started: when the call began, by ``time.perf_counter``.
        parent: gets everything too.
        initial: what is known already.
    """

    def __init__(
        self, started: float, parent: TimingsRecorder | None = None, *, initial: Timings | None = None
    ) -> None:
        self.started = started
        self.timings = initial or Timings()
        self._parent = parent

    def add(self, **amounts: float) -> None:
        """Add times and counts to the fields of those names."""
        sums = {name: getattr(self.timings, name) + amount for name, amount in amounts.items()}
        self.timings = replace(self.timings, **sums)
        if self._parent is not None:
            self._parent.add(**amounts)

    def first_token(self, now: float) -> None:
        """Note when a text began; only the first one counts."""
        if self.timings.ttft_s is None:
            self.timings = replace(self.timings, ttft_s=now - self.started)
        if self._parent is not None:
            self._parent.first_token(now)

    def end(self, now: float) -> None:
        """Note when the call ended."""
        self.timings = replace(self.timings, total_s=now - self.started)
