"""Say what a judgement depends on: the bundle's files and prompts, and how they are used."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from aesedge.bundle.bundle import Bundle
    from aesedge.config.plan import Plan


def settings_of(bundle: Bundle, plan: Plan) -> dict[str, Any]:
    """Return the settings under which a judgement is kept; with others, photos are judged anew."""
    manifest = bundle.manifest
    words = (manifest.prompt, manifest.rating, manifest.image)
    files = {"llm": manifest.file("llm", plan.gguf), "vision": manifest.file("vision", plan.vision)}
    return {
        "bundle": manifest.name,
        "gguf": plan.gguf.lower(),
        "vision": plan.vision.lower(),
        "image_tokens": plan.n_image_tokens,
        **{f"{role}_sha256": file.sha256 for role, file in files.items() if file is not None},
        "prompts_sha256": hashlib.sha256(msgspec.json.encode(words)).hexdigest(),
    }
