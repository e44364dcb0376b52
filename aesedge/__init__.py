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
    from aesedge.conversation import Conversation
    from aesedge.engine import Model
    from aesedge.engine import open_model as open  # noqa: A004 (read as aesedge.open)
    from aesedge.errors import AesedgeError
    from aesedge.llm.sampler import Sampling
    from aesedge.options import Options
    from aesedge.photo import Photo
    from aesedge.rating import Rating
    from aesedge.reply import Reply, Writing
    from aesedge.result import PhotoResult
    from aesedge.work import Priority

_HOMES = {
    "AesedgeError": "errors",
    "Conversation": "conversation",
    "Model": "engine",
    "Options": "engine",
    "Photo": "photo",
    "PhotoResult": "result",
    "Priority": "scheduler",
    "Rating": "rating",
    "Reply": "reply",
    "Sampling": "llm.sampler",
    "Writing": "reply",
    "open": "engine",
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
