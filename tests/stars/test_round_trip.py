"""exiftool and exiv2 write into our files, as photo programs that are built on them do; then it is our turn again."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from judged_library import contents, judge

from aesedge.cli import main
from aesedge.xmp.packet import Packet
from aesedge.xmp.property_names import ATTRIBUTES, RATING, SCORE

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = {
    "exiftool": (
        ["-overwrite_original", "-q", "-XMP-xmp:Rating={}"],
        ["-overwrite_original", "-q", "-XMP-dc:Title={}"],
    ),
    "exiv2": (["-Mset Xmp.xmp.Rating {}"], ["-Mset Xmp.dc.source {}"]),
}


def run(program: str, arguments: list[str], value: str, path: Path) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    subprocess.run([found, *(argument.format(value) for argument in arguments), str(path)], check=True)


def read(path: Path) -> Packet:
    return Packet(path.read_bytes(), path.name)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_rating_by_another_program_stays(program: str, tmp_path: Path) -> None:
    judge(tmp_path, {"a.CR3": 8.4})
    assert main(["stars", str(tmp_path)]) == 0
    run(program, PROGRAMS[program][0], "3", tmp_path / "a.xmp")
    for cuts in ("1,2,3,4", "9,9.1,9.2,9.3"):
        assert main(["stars", str(tmp_path), "--cuts", cuts]) == 0
        assert read(tmp_path / "a.xmp").text(RATING) == "3"
    assert read(tmp_path / "a.xmp").text(SCORE) == "8.4"


@pytest.mark.parametrize("program", PROGRAMS)
def test_our_values_survive_another_program_and_are_still_ours(program: str, tmp_path: Path) -> None:
    judge(tmp_path, {"a.CR3": 8.4})
    before = contents(tmp_path)
    assert main(["stars", str(tmp_path)]) == 0
    run(program, PROGRAMS[program][1], "from elsewhere", tmp_path / "a.xmp")
    packet = read(tmp_path / "a.xmp")
    assert (packet.text(RATING), packet.text(SCORE)) == ("5", "8.4")
    assert packet.items(ATTRIBUTES) == ("composition=4.2", "light & shade=4.2")
    assert main(["stars", str(tmp_path), "--cuts", "9,9.1,9.2,9.3"]) == 0
    assert read(tmp_path / "a.xmp").text(RATING) == "1"
    rewritten = b"from elsewhere"
    assert main(["stars", "--undo"]) == 0
    assert read(tmp_path / "a.xmp").text(RATING) == "5"
    assert main(["stars", "--undo"]) == 0  # in a file that another program has rewritten: ours alone
    assert rewritten in (tmp_path / "a.xmp").read_bytes()
    assert b"aesedge" not in (tmp_path / "a.xmp").read_bytes()
    assert read(tmp_path / "a.xmp").text(RATING) is None
    assert before["a.CR3"] == contents(tmp_path)["a.CR3"]
