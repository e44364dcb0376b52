"""``aesedge rate`` on a tiny real bundle: each picture is judged once, wherever its files go and whatever fails."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiny
from cli_runner import cli  # noqa: F401 (a fixture)
from conftest import drawn_photo
from photo_files import jpeg, with_metadata, write_photos
from PIL import ExifTags, Image

from aesedge.library.catalogue import open_catalogue

if TYPE_CHECKING:
    from cli_runner import Cli

    from aesedge.library.records import JudgedPhoto


def judged(folder: Path) -> dict[str, JudgedPhoto]:
    with open_catalogue() as catalogue:
        return {Path(photo.path).name: photo for photo in catalogue.judgements(folder)}


def n_judgements() -> int:
    with open_catalogue() as catalogue:
        return catalogue.n_judgements()


def test_photos_are_judged_as_score_does_and_remembered(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 3)
    code, out, err = cli("rate", folder)
    assert code == 0, err
    assert out.startswith("3 photos: 3 judged in ")
    _, lines, _ = cli("score", "--json", folder)
    scores = {Path(line["photo"]).name: line for line in map(json.loads, lines.splitlines())}
    for name, photo in judged(folder).items():
        assert photo.score == pytest.approx(scores[name]["score"], abs=1e-4)
        assert photo.attributes == pytest.approx(
            {key: value["score"] for key, value in scores[name]["attributes"].items()}, abs=1e-4
        )
        assert photo.settings["bundle"] == "tiny"
        assert photo.result["seen"] == "photo"
        with open_catalogue() as catalogue:
            row = catalogue.mean_row(photo.content, 1)
        assert row is not None
        assert row.shape == (tiny.N_EMBD,)
    code, out, _ = cli("rate", folder)
    assert (code, out) == (0, "3 photos: 3 known\n")


def move(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "0.jpg").rename(folder / "below" / "0.jpg")


def copy(folder: Path) -> None:
    shutil.copy(folder / "0.jpg", folder / "copy.jpg")


def rename(folder: Path) -> None:
    (folder / "0.jpg").rename(folder / "best.JPG")


def write_a_rating(folder: Path) -> None:
    path = folder / "0.jpg"
    path.write_bytes(with_metadata(path.read_bytes(), b"<x:xmpmeta>4</x:xmpmeta>"))


def rename_and_write(folder: Path) -> None:
    write_a_rating(folder)
    rename(folder)


def touch(folder: Path) -> None:
    os.utime(folder / "0.jpg", ns=(1, 1))


@pytest.mark.parametrize("change", [move, copy, rename, write_a_rating, rename_and_write, touch])
def test_nothing_is_judged_anew_after(change, cli: Cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001, F811
    folder = tmp_path / "photos"
    write_photos(folder, 2)
    cli("rate", folder)
    before = judged(folder)["0.jpg"]
    change(folder)
    code, out, _ = cli("rate", folder)
    assert code == 0
    assert "judged" not in out
    assert n_judgements() == 2
    after = [photo for photo in judged(folder).values() if not photo.is_away and photo.key == before.key]
    assert [photo.score for photo in after] == [before.score] * (2 if change is copy else 1)


@pytest.mark.parametrize("keeps_time", [False, True])
def test_another_photo_in_a_files_place_is_judged(keeps_time: bool, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    path, other = (folder / f"{i}.bmp" for i in range(2))
    folder.mkdir()
    drawn_photo(0).save(path)
    cli("rate", folder)
    before, state = judged(folder)["0.bmp"], path.stat()
    drawn_photo(1).save(other)
    other.replace(path)
    assert path.stat().st_size == state.st_size
    if keeps_time:
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    cli("rate", folder)
    assert judged(folder)["0.bmp"].key != before.key
    assert n_judgements() == 2


def test_a_photo_that_was_turned_in_place_is_judged(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    folder.mkdir()
    path, exif = folder / "0.jpg", Image.Exif()
    for orientation in (1, 6):
        exif[ExifTags.Base.Orientation] = orientation
        path.write_bytes(jpeg(0, size=(900, 600), exif=exif))
        cli("rate", folder)
        assert path.stat().st_size > 1 << 16
    assert n_judgements() == 2


def test_scans_with_the_same_margin_are_different_photos(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(2):
        page = drawn_photo(9, (300, 300))
        page.paste((255, 255, 255), (0, 60, 300, 300))  # more than 64 KB of margin at the end of the file
        page.paste(drawn_photo(i, (300, 60)), (0, 0))
        page = page.transpose(1)  # BMP begins at the bottom
        page.save(folder / f"{i}.bmp")
        cli("rate", folder)
    assert n_judgements() == 2


def test_other_settings_are_judged_beside_the_first(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder, other = tmp_path / "photos", tiny.write_bundle(tmp_path / "other", seed=5)
    write_photos(folder, 2)
    cli("rate", folder)
    first = judged(folder)
    code, out, _ = cli("rate", "--bundle", other, folder, load=False)
    assert code == 0
    assert "2 judged" in out
    second = judged(folder)
    assert all(first[name].score != second[name].score for name in first)
    assert all(first[name].content == second[name].content for name in first)
    assert cli("rate", folder)[1] == "2 photos: 2 known\n"


def test_failures_are_kept_and_tried_again_on_change_or_with_retry(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    (path,) = write_photos(folder, 1)
    path.write_bytes(path.read_bytes()[:600])
    code, out, err = cli("rate", folder)
    assert (code, out) == (1, "1 photos: 1 failed\n")
    assert err.count("0.jpg") == 1
    with open_catalogue() as catalogue:
        ((name, failure),) = catalogue.failures(folder)
    assert (Path(name), failure.type) == (path, "ImageError")
    code, out, err = cli("rate", folder)
    assert (code, err) == (0, "")
    assert out == "1 photos: 1 failed before (--retry tries them again)\n"
    assert cli("rate", "--retry", folder)[0] == 1
    path.write_bytes(jpeg(0))
    assert "1 judged" in cli("rate", folder)[1]
    with open_catalogue() as catalogue:
        assert list(catalogue.failures()) == []


def test_a_drive_that_is_away_takes_nothing_along(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder, away = tmp_path / "drive", tmp_path / "away"
    write_photos(folder, 2)
    cli("rate", folder)
    folder.rename(away)
    code, out, err = cli("rate", folder)
    assert (code, out) == (1, "0 photos: 2 away\n")
    assert "there is no such folder or photo; check the path, and that its drive is connected" in err
    folder.mkdir()  # an empty mount point
    assert cli("rate", folder)[1] == "0 photos: 2 away\n"
    assert len(judged(folder)) == 2
    folder.rmdir()
    away.rename(folder)
    assert cli("rate", folder)[1] == "2 photos: 2 known\n"
    assert not any(photo.is_away for photo in judged(folder).values())


def test_a_photo_that_goes_away_while_it_is_read_is_no_failure(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "photos"
    paths = write_photos(folder, 3)
    from aesedge.library import judging

    examine = judging.examine

    def unplugged(picture: object, spec: object) -> object:
        paths[1].unlink(missing_ok=True)
        return examine(picture, spec)  # type: ignore[arg-type]

    monkeypatch.setattr(judging, "examine", unplugged)
    code, out, _ = cli("rate", folder)
    assert code == 0
    assert "2 judged" in out
    assert "1 away" in out
    with open_catalogue() as catalogue:
        assert list(catalogue.failures()) == []


def test_raw_and_jpeg_of_one_name_are_one_picture(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 2)
    (folder / "0.CR3").write_bytes(b"never opened")
    _, out, _ = cli("rate", folder)
    assert out.startswith("2 photos: 2 judged")
    assert judged(folder)["0.jpg"].files == (str(folder / "0.jpg"), str(folder / "0.CR3"))
    assert cli("rate", folder)[1] == "2 photos: 2 known\n"
    (folder / "0.jpg").unlink()
    assert cli("rate", folder)[1] == "2 photos: 2 known\n"  # the RAW is the same picture still


def test_copies_in_one_run_are_judged_once(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 1)
    for i in range(5):
        shutil.copy(folder / "0.jpg", folder / f"copy {i}.jpg")
    _, out, _ = cli("rate", folder)
    assert n_judgements() == 1
    assert out.startswith("6 photos: 1 judged in ")
    assert out.endswith("5 known\n")


def test_json_is_one_line_for_each_photo_judged_now(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 2)
    (folder / "bad.jpg").write_bytes(b"junk")
    code, out, err = cli("rate", "--json", "--quiet", folder)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert sorted(Path(line["photo"]).name for line in lines) == ["0.jpg", "1.jpg", "bad.jpg"]
    assert [line["error"]["type"] for line in lines if "error" in line] == ["ImageError"]
    assert err.count("\n") == 1
    assert cli("rate", "--json", "--quiet", folder)[1:] == ("", "")


def test_critiques_of_all_or_of_the_best(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 3)
    short = ("--max-tokens", 4)
    assert cli("rate", "--critique", "best:1", *short, folder)[0] == 0
    found = judged(folder)
    best = max(found, key=lambda name: found[name].score)
    assert [name for name, photo in found.items() if photo.critique is not None] == [best]
    code, out, _ = cli("rate", "--critique", "all", "--report", *short, folder)
    assert (code, out) == (0, "3 photos: 3 known, texts about 3\n")
    found = judged(folder)
    assert all(photo.critique is not None for photo in found.values())
    assert all(set(photo.report or {}) == {"attributes", "strengths", "faults", "advice"} for photo in found.values())
    assert n_judgements() == 3
    (folder / "new.jpg").write_bytes(jpeg(7))
    assert cli("rate", "--critique", "all", *short, folder)[1].startswith("4 photos: 1 judged in ")
    assert judged(folder)["new.jpg"].critique is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--critique", "some"), "--critique 'some' is neither none, all nor best:N"),
        (("--report",), "--report is written with a critique"),
        (("--first-pass", "0"), "--first-pass '0' is no share of the photos"),
        (("--first-pass", "300%"), "is no share of the photos"),
        (("--shard", "4/3"), "--shard '4/3' is no part of a whole"),
        (("--catalogue", "/dev/null/x"), "/dev/null/x: cannot be written"),
    ],
)
def test_wrong_options_are_refused(options: tuple[str, ...], message: str, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    write_photos(tmp_path / "photos", 1)
    code, out, err = cli("rate", *options, tmp_path / "photos")
    assert (code, out) == (2, "")
    assert message in err


def test_shards_take_all_photos_once_and_merge(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    folder = tmp_path / "photos"
    write_photos(folder, 7)
    (folder / "3.nef").write_bytes(b"beside 3.jpg")
    parts = [tmp_path / f"part-{i}.aesedge" for i in (1, 2, 3)]
    for i, part in enumerate(parts, 1):
        assert cli("rate", "--shard", f"{i}/3", "--catalogue", part, folder)[0] == 0
    counts = []
    for part in parts:
        with open_catalogue(part) as catalogue:
            counts.append(catalogue.n_judgements())
    assert sum(counts) == 7
    assert len([count for count in counts if count]) > 1
    for n_known in (0, 7):
        code, _, err = cli("rate", "--merge", *parts, load=False)
        assert code == 0
        added = [int(line.split()[1]) for line in err.splitlines()]
        assert sum(added) == 7 - n_known
    assert judged(folder).keys() == {f"{i}.jpg" for i in range(7)}
    assert cli("rate", folder)[1] == "7 photos: 7 known\n"
