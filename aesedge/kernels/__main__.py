"""Compile the backend beside a clone's other builds, as ``make`` does; without a compiler say so, and succeed."""

from __future__ import annotations

import sys

from aesedge.kernels import library


def main() -> None:
    """Compile it, unless it is there, and say where it is."""
    found = library.find_library(None, retry=True, folder=library.CLONE_FOLDER)
    print(found.path or f"no matrix kernels: {found.reason}", file=sys.stderr)  # noqa: T201 - a command


if __name__ == "__main__":
    main()
