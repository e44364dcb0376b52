"""Budgets that are a share of the disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from aesedge.cache import parse_budget
from aesedge.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_percent_is_of_the_disk_of_a_folder_that_need_not_exist(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    assert parse_budget("5%", tmp_path / "not" / "yet") == total // 20
    assert parse_budget("100 %", tmp_path) == total


def test_what_is_no_budget_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cache size 'lots' is no size"):
        parse_budget("lots", tmp_path)


def test_disk_of_unknown_size_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_usage(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "disk_usage", no_usage)
    with pytest.raises(UsageError, match="Permission denied"):
        parse_budget("5%", tmp_path)
