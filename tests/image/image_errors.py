"""What every photo that cannot be read must give: one of our errors, one line, the photo's name first."""

from __future__ import annotations

from typing import Any

import pytest

from aesedge.errors import AesedgeError, ImageError
from aesedge.image import read_image


def error_of(source: Any, *, kind: type[AesedgeError] = ImageError, **options: Any) -> str:
    """Read a photo that must fail, and return its message."""
    with pytest.raises(kind) as caught:
        read_image(source, name="bad.jpg", **options)
    message = str(caught.value)
    assert message.startswith("bad.jpg: ")
    assert "\n" not in message
    assert len(message) < 400
    return message
