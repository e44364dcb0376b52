"""Sizes as people write and read them."""

from __future__ import annotations

import pytest

from aesedge.errors import UsageError
from aesedge.system.byte_sizes import parse_size, size_text


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("2GB", 2_000_000_000),
        ("500MB", 500_000_000),
        ("6 gb", 6_000_000_000),
        ("1.5G", 1_500_000_000),
        (" 1.5 gib ", 3 << 29),
        ("64KiB", 65536),
        ("1kB", 1000),
        ("10b", 10),
        ("0.1GB", 100_000_000),
        ("2TB", 2 * 10**12),
        ("1TiB", 1 << 40),
        ("0", 0),
        ("0MB", 0),
        ("0%", 0),
        ("5%", 8_000_000_000),
        ("12.5 %", 20_000_000_000),
        ("100%", 160_000_000_000),
    ],
)
def test_sizes_are_read(text: str, n_bytes: int) -> None:
    assert parse_size(text, name="--memory", whole=lambda: 160_000_000_000) == n_bytes


@pytest.mark.parametrize(
    "text",
    ["", "lots", "500", "-1GB", "1,5GB", "5%%", "5 % GB", "1e9B", "nan%", "GB", "6XB", "2iB", "1" * 16 + "B", "٣GB"],
)
def test_what_is_no_size_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(UsageError, match=r"--memory .* is no size; write a number with its unit"):
        parse_size(text, name="--memory", whole=lambda: 1)


def test_more_than_all_is_refused() -> None:
    with pytest.raises(UsageError, match="cache size '101%' is more than there is"):
        parse_size("101%", name="cache size", whole=lambda: 1)


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (5, "5 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (24_100_000, "24.1 MB"),
        (999_000_000, "999 MB"),
        (999_700_000, "1 GB"),
        (5_640_000_000, "5.64 GB"),
        (4_321 * 10**12, "4321 TB"),
    ],
)
def test_sizes_are_shown(n_bytes: int, text: str) -> None:
    assert size_text(n_bytes) == text
