"""aesedge: AesExpert, the LLaVA-1.5 model that judges photographs, on the machine where the photos are.

    import aesedge

    with aesedge.load_model("pocket") as model, model.look("a.jpg") as photo:
        print(photo.score().score)
        for piece in photo.stream("Analyze the composition."):
            print(piece, end="", flush=True)

Importing this package loads no native library; ``load_model`` does. It sets environment variables that such libraries
read: see :mod:`aesedge.system.environment`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aesedge import errors
from aesedge.system import environment

__version__ = "0.1.0"

environment.prepare()

if TYPE_CHECKING:
    from aesedge.config.options import Options
    from aesedge.engine.answer import Answer, AnswerStream
    from aesedge.engine.conversation import Conversation, Turn
    from aesedge.engine.generation_options import GenerationOptions
    from aesedge.engine.logprobs import TokenLogprob
    from aesedge.engine.model import Model, load_model
    from aesedge.engine.model import load_model as open  # noqa: A004, F401 (read as aesedge.open)
    from aesedge.engine.photo import Photo
    from aesedge.engine.results import Outcome, PhotoResult, Rating, Report
    from aesedge.engine.timings import Timings
    from aesedge.errors import (
        AesedgeError,
        BundleError,
        BundleFormatError,
        BundleIntegrityError,
        BundleNotFoundError,
        CatalogueBusyError,
        CatalogueError,
        CheckpointError,
        ContextFullError,
        DownloadError,
        ImageError,
        ImageNotFoundError,
        ImageTooLargeError,
        InferenceError,
        MemoryFitError,
        MissingExtraError,
        ModelLoadError,
        ParityError,
        ProviderError,
        UsageError,
        XmpError,
    )
    from aesedge.llm.grammar import Grammar
    from aesedge.scheduling.requests import Priority

_HOMES = {
    **dict.fromkeys(errors.__all__, "errors"),
    "Answer": "engine.answer",
    "AnswerStream": "engine.answer",
    "Conversation": "engine.conversation",
    "GenerationOptions": "engine.generation_options",
    "Grammar": "llm.grammar",
    "Model": "engine.model",
    "Options": "config.options",
    "Outcome": "engine.results",
    "Photo": "engine.photo",
    "PhotoResult": "engine.results",
    "Priority": "scheduling.requests",
    "Rating": "engine.results",
    "Report": "engine.results",
    "Timings": "engine.timings",
    "TokenLogprob": "engine.logprobs",
    "Turn": "engine.conversation",
    "load_model": "engine.model",
}

__all__ = [
    "AesedgeError",
    "Answer",
    "AnswerStream",
    "BundleError",
    "BundleFormatError",
    "BundleIntegrityError",
    "BundleNotFoundError",
    "CatalogueBusyError",
    "CatalogueError",
    "CheckpointError",
    "ContextFullError",
    "Conversation",
    "DownloadError",
    "GenerationOptions",
    "Grammar",
    "ImageError",
    "ImageNotFoundError",
    "ImageTooLargeError",
    "InferenceError",
    "MemoryFitError",
    "MissingExtraError",
    "Model",
    "ModelLoadError",
    "Options",
    "Outcome",
    "ParityError",
    "Photo",
    "PhotoResult",
    "Priority",
    "ProviderError",
    "Rating",
    "Report",
    "Timings",
    "TokenLogprob",
    "Turn",
    "UsageError",
    "XmpError",
    "load_model",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used; ``open`` is the old name of ``load_model``."""
    name = "load_model" if name == "open" else name
    if name not in _HOMES:
        raise AttributeError(f"module 'aesedge' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aesedge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
