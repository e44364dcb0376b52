"""Budgets as people write them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from aesedge.cache import parse_budget
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("2GB", 2_000_000_000),
        ("500MB", 500_000_000),
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
    ],
)
def test_sizes(text: str, n_bytes: int, tmp_path: Path) -> None:
    assert parse_budget(text, tmp_path) == n_bytes


def test_percent_is_of_the_disk_of_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    assert parse_budget("5%", tmp_path / "not" / "yet") == total // 20
    assert parse_budget("100 %", tmp_path) == total
    assert parse_budget("12.5%", tmp_path) == total // 8


@pytest.mark.parametrize(
    "text",
    ["", "lots", "500", "-1GB", "1,5GB", "5%%", "5 % GB", "1e9B", "nan%", "GB", "2iB", "2 G", "1" * 16 + "B", "٣GB"],
)
def test_what_is_no_budget_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no budget; write a size with its unit"):
        parse_budget(text, tmp_path)


def test_more_than_the_disk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="more than the whole disk"):
        parse_budget("101%", tmp_path)


def test_disk_of_unknown_size_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_usage(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", no_usage)
    with pytest.raises(UsageError, match="Permission denied"):
        parse_budget("5%", tmp_path)
