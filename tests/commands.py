"""Run a command and keep what it prints."""

from __future__ import annotations

import subprocess
from typing import Any


def run(command: list[Any], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command for two minutes at most; its exit status is not checked."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, timeout=120, **options
    )
