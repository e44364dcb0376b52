"""aesedge: AesExpert, the LLaVA-1.5 model that judges photographs, on the machine where the photos are.

    import aesedge

    with aesedge.open("pocket") as model, model.look("a.jpg") as photo:
        print(photo.score().score)
        for piece in photo.ask("Analyze the composition."):
            print(piece, end="", flush=True)

Importing this package loads no native library; ``open`` does. It sets environment variables that such libraries read:
see :mod:`aesedge.system.environment`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aesedge.system import environment

__version__ = "0.1.0"

environment.prepare()

if TYPE_CHECKING:
    from aesedge.config.options import Options
    from aesedge.engine.completion import Reply, Writing
    from aesedge.engine.conversation import Conversation
    from aesedge.engine.model import Model
    from aesedge.engine.model import open_model as open  # noqa: A004 (read as aesedge.open)
    from aesedge.engine.photo import Photo
    from aesedge.engine.rating import Rating
    from aesedge.engine.results import PhotoResult
    from aesedge.errors import AesedgeError
    from aesedge.llm.sampler import Sampling
    from aesedge.scheduling.requests import Priority

_HOMES = {
    "AesedgeError": "errors",
    "Conversation": "engine.conversation",
    "Model": "engine.model",
    "Options": "engine.model",
    "Photo": "engine.photo",
    "PhotoResult": "engine.results",
    "Priority": "scheduling.scheduler",
    "Rating": "engine.rating",
    "Reply": "engine.completion",
    "Sampling": "llm.sampler",
    "Writing": "engine.completion",
    "open": "engine.model",
}

__all__ = [
    "AesedgeError",
    "Conversation",
    "Model",
    "Options",
    "Photo",
    "PhotoResult",
    "Priority",
    "Rating",
    "Reply",
    "Sampling",
    "Writing",
    "open",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'aesedge' has no attribute {name!r}")
    home = importlib.import_module(f"aesedge.{_HOMES[name]}")
    return getattr(home, "open_model" if name == "open" else name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
