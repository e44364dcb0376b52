"""Set the environment variables that native libraries read when they are loaded: no telemetry.

``import aesedge`` and ``import aesedge_export`` do it before any of these libraries can be imported by them. Setting
``os.environ`` is enough for C code because CPython hands it on to ``setenv``. Children inherit the variables.
"""

from __future__ import annotations

import os

NO_TELEMETRY = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime's wheels report usage from 1.29 on; read when it is imported
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and with it transformers
    "DO_NOT_TRACK": "1",  # what others of the kind respect
}
"""Set in any case: no process of ours sends telemetry."""


def prepare() -> None:
    """Set the variables."""
    os.environ.update(NO_TELEMETRY)
