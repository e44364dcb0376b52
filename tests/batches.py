"""What a model's context decodes, batch by batch, and how much of its KV cache is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from aesedge.engine.model import Model


class Batches:
    """Counts what the context runs, batch by batch, on its way through."""

    def __init__(self, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.sequences: list[list[int]] = []
        append = model.internals.sequences.context.append

        def counted(parts: Any, wanted: Any) -> Any:
            self.sizes.append(sum(len(tokens) for _, tokens in parts))
            self.sequences.append([seq_id for seq_id, _ in parts])
            return append(parts, wanted)

        monkeypatch.setattr(model.internals.sequences.context, "append", counted)


def free(model: Model) -> tuple[int, int]:
    return model.internals.sequences.context.n_free, model.internals.sequences.n_sequences_free
