"""What is to be said of a photo's file stands beside its score: on the terminal, in the JSON and in Python."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cli_runner
import pytest
from cli_runner import Cli
from conftest import open_tiny

from aesedge.samples import SAMPLE_PHOTOS

if TYPE_CHECKING:
    from pathlib import Path

cli = cli_runner.cli  # fixture

REMARK = "the file lacks its end marker; the picture is complete"


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    path = tmp_path / "damaged.jpg"
    path.write_bytes(SAMPLE_PHOTOS[0].read_bytes()[:-2])
    return path


@pytest.mark.parametrize("command", [("run", "--max-tokens", 3), ("score",)], ids=lambda words: words[0])
def test_remarks_stand_under_the_photo_s_rows(cli: Cli, damaged: Path, command: tuple[str | int, ...]) -> None:
    code, out, _ = cli(*command, damaged, SAMPLE_PHOTOS[1])
    assert code == 0
    assert out.count("note: ") == 1
    assert out.index(str(damaged)) < out.index(f"  note: {REMARK}\n") < out.index(str(SAMPLE_PHOTOS[1]))
    code, out, _ = cli(*command, "--json", damaged, SAMPLE_PHOTOS[1])
    assert code == 0
    assert [json.loads(line)["remarks"] for line in out.splitlines()] == [[REMARK], []]


def test_a_photo_from_the_cache_has_its_remarks_and_no_others(damaged: Path, tmp_path: Path) -> None:
    options = {"cache_folder": tmp_path / "cache", "worth_keeping_s": 0.0}
    found = []
    for _ in range(2):
        with open_tiny("pocket", **options) as model:
            for source in (damaged, SAMPLE_PHOTOS[0], damaged):
                with model.look(source) as photo:
                    found.append((photo.cache_state, photo.remarks))
            results = [o.value.remarks for o in model.score_many([damaged, SAMPLE_PHOTOS[0]])]
            assert results == [(REMARK,), ()]
    # The same pixels, so the same embeddings; and the remark goes with the file.
    assert [state for state, _ in found] == ["cold"] + ["embeddings"] * 5
    assert [remarks for _, remarks in found] == [(REMARK,), (), (REMARK,)] * 2
