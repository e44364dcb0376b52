"""Photos and folders as they are named on the command line: what cannot be looked at costs one line and only itself."""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import cli_runner
import pytest
from cli_runner import Cli, photos, send

from aesedge.cli import main
from aesedge.cli.streams import OutputLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

cli = cli_runner.cli  # fixture

NAMES = [
    b"caf\xe9.png",
    b"\xff\xfe\x80.png",
    "новый 📷.png".encode(),
    b"line\nbreak.png",
    b"return\r\n.png",
    b"-dash.png",
    b"--help.png",
    b"tab\tx.png",
    b"UPPER.PNG",
    b"esc\x1b[31mred.png",
    b"title\x1b]0;owned\x07.png",
    b"c1\xc2\x9b2J.png",
    "rtl\u202egnp.exe.png".encode(),
    "lines\u2028\u2029\x85.png".encode(),
    b"quote'\".png",
    b"a  b.png",
    b"back\\slash.png",
    b"percent%41.png",
    b"{brace}.png",
    b"[bold]markup.png",
    "照片.png".encode(),
    b"a" * 251 + b".png",
]


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder of photos with all the names that there are."""
    (photo,) = photos(tmp_path, 1)
    folder = tmp_path / "named"
    folder.mkdir()
    for name in NAMES:
        (folder / os.fsdecode(name)).write_bytes(photo.read_bytes())
    return folder


def steers_nothing(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


def test_every_name_is_one_row_and_one_line_of_json(cli: Cli, named: Path) -> None:
    code, out, err = cli("score", "--no-attributes", named)
    assert (code, len(out.splitlines())) == (0, len(NAMES))
    assert steers_nothing(out + err)
    code, out, err = cli("score", "--no-attributes", "--json", named)
    assert (code, len(out.splitlines())) == (0, len(NAMES))
    out.encode()  # no lone surrogates
    assert steers_nothing(out + err)
    assert len({json.loads(line)["photo"] for line in out.splitlines()}) == len(NAMES)


def test_every_name_is_complained_of_in_one_line(cli: Cli, named: Path) -> None:
    for path in named.iterdir():
        path.write_bytes(b"no photo")
    for command in ("score", "run"):
        code, out, err = cli(command, "--quiet", *sorted(named.iterdir()))
        assert (code, out, len(err.splitlines())) == (1, "", len(NAMES))
        assert steers_nothing(err)
        assert "caf\\xe9.png: is not an image" in err


@pytest.mark.parametrize("name", NAMES)
def test_run_and_chat_take_every_name(cli: Cli, named: Path, name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = named / os.fsdecode(name)
    code, out, err = cli("run", "--max-tokens", 1, "--no-critique", path)
    assert (code, out.count("technical quality"), steers_nothing(out + err)) == (0, 1, True)
    send(monkeypatch, b"/score\n" + os.fsencode(path).replace(b"\n", b"") + b"\n")
    code, out, _ = cli("chat", "--json", path)
    assert code == 0
    assert len({json.loads(line)["photo"] for line in out.splitlines()[:1]}) == 1


@pytest.mark.parametrize("terminal", ["xterm", "dumb"])
@pytest.mark.parametrize("columns", ["1", "20", "80", "1000"])
def test_progress_lines_are_one_line_that_steers_nothing(
    cli: Cli, named: Path, monkeypatch: pytest.MonkeyPatch, terminal: str, columns: str
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    code, out, err = cli("score", "--no-attributes", named)
    assert (code, len(out.splitlines())) == (0, len(NAMES))
    if terminal == "dumb":
        assert steers_nothing(err)
        return
    pieces = err.split("\r\x1b[2K")
    assert steers_nothing("".join(pieces))
    assert all(len(piece) < max(2, int(columns)) for piece in pieces[:-1])


BAD_PATHS = [
    ("{folder}/none.png", "there is no such file"),
    ("{photo}/below.png", "there is no such file"),
    ("{folder}/" + "a" * 300 + ".png", "File name too long"),
    ("/" + "a/" * 3000 + "a.png", "File name too long"),
    ("{folder}/loop.png", "Too many levels of symbolic links"),
    ("{folder}/broken.png", "there is no such file"),
    ("{folder}/pipe.png", "a pipe"),
    ("/dev/null", "a device"),
    ("{folder}/empty.png", "is empty"),
    ("{folder}/pointer.png", "git lfs pull"),
    ("", "no such file"),
    ("~nobody/a.png", "there is no such file"),
    ("file://[::1/a.png", "there is no such file"),
]


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "broken.png").symlink_to("nothing.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "pointer.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    return tmp_path


def test_a_path_that_cannot_be_looked_at_costs_one_line_and_itself(cli: Cli, bad: Path) -> None:
    first, last = photos(bad, 2)
    paths = [path.format(folder=bad, photo=first) for path, _ in BAD_PATHS]
    for command in ("score", "run"):
        options = ["--no-critique"] if command == "run" else ["--no-attributes"]
        code, out, err = cli(command, "--json", "--quiet", *options, first, *paths, last)
        assert code == 1
        found = [json.loads(line) for line in out.splitlines()]
        assert [line["photo"] for line in found] == list(map(str, [first, *paths, last]))
        assert ["error" in line for line in found] == [False, *[True] * len(paths), False]
        lines = err.splitlines()
        assert len(lines) == len(paths)
        for line, (_, reason) in zip(lines, BAD_PATHS, strict=True):
            assert reason in line


@pytest.mark.parametrize(("path", "reason"), BAD_PATHS)
def test_commands_for_one_photo_say_it_in_one_line(cli: Cli, bad: Path, path: str, reason: str) -> None:
    (first,) = photos(bad, 1)
    for command in ("chat", "run"):
        code, out, err = cli(command, path.format(folder=bad, photo=first))
        assert (code, out, len(err.splitlines()), reason in err) == (1, "", 1, True)


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EPERM]
)
def test_errors_of_the_system_of_any_number(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "in" / "gone").mkdir(parents=True)
    photos(tmp_path / "in" / "gone", 1)
    first, gone, last = photos(tmp_path / "in", 3)

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, **options: Any) -> Any:
            if not isinstance(path, int) and os.fspath(path) in {str(gone), str(tmp_path / "in" / "gone")}:
                raise OSError(number, os.strerror(number), os.fspath(path))
            return real(path, *arguments, **options)

        return call

    monkeypatch.setattr(os, "stat", failing(os.stat))
    monkeypatch.setattr(os, "scandir", failing(os.scandir))
    code, out, err = cli("score", "--json", "--quiet", "--no-attributes", tmp_path / "in")
    assert code == 1
    found = {line["photo"]: "error" in line for line in map(json.loads, out.splitlines())}
    assert found == {str(gone.parent / "gone"): True, str(first): False, str(gone): True, str(last): False}
    assert len(err.splitlines()) == 2
    assert str(tmp_path / "in" / "gone") in err
    assert str(gone) in err


def test_an_empty_folder_among_others_stops_nothing(cli: Cli, tmp_path: Path) -> None:
    (first,) = photos(tmp_path, 1)
    for name in ("empty", "notes", "hidden/.x", "@eaDir"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notes" / "a.txt").touch()
    names = [tmp_path / "empty", first, tmp_path / "notes", tmp_path / "hidden"]
    code, out, err = cli("score", "--json", "--quiet", *names)
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, err.count("no photos in this folder"), len(found)) == (1, 3, 4)
    assert [line["photo"] for line in found if "error" not in line] == [str(first)]
    code, out, err = cli("score", tmp_path / "empty", tmp_path / "notes")
    assert (code, out, len(err.splitlines()), err.count("no photos")) == (2, "", 1, 2)


def test_a_folder_of_which_nothing_can_be_read(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: str) -> Iterator[os.DirEntry[str]]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", locked)
    code, out, err = cli("score", tmp_path)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{tmp_path}: no permission to read this folder" in err


@pytest.mark.parametrize("command", ["score", "run"])
def test_the_summary_counts_what_was_done(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    options = {"score": ["--no-attributes"], "run": ["--no-critique"]}[command]
    paths = photos(tmp_path, 4)
    code, _, err = cli(command, "--json", *options, paths[0], tmp_path / "none.png", *paths[1:3])
    assert (code, err.count("\n"), "3 of 4 photos, " in err) == ((1, 2, True) if command == "score" else (1, 1, False))
    n_shown = 0

    def show(_: object) -> None:
        nonlocal n_shown
        if n_shown == 2:
            raise KeyboardInterrupt
        n_shown += 1

    monkeypatch.setattr("aesedge.cli.run_score.print_json", show)
    code, _, err = cli(command, "--json", *options, *paths)
    assert (code, err.splitlines()[-1].startswith("2 of 4 photos")) == (130, True)
    n_shown = 0
    code, _, err = cli(command, "--json", "--quiet", *options, *paths)
    assert "photos" not in err
    monkeypatch.setattr("aesedge.cli.run_score.print_json", _raise_lost)
    assert "photos" not in cli(command, "--json", *options, *paths)[2]


def _raise_lost(_: object) -> None:
    raise OutputLostError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--ask", "", "x.png"], "--ask has no text"),
        (["run", "--ask", " \t\n", "x.png"], "--ask has no text"),
        (["run", "--ask", "Why?", "--ask", "", "x.png"], "--ask has no text"),
        (["run", "-", "-"], "more than once"),
        (["score", "-", "a.png", "-"], "more than once"),
        (["run", "--threads", "100000", "x.png"], "at most"),
        (["score", "--threads", "0", "x.png"], "1 or more"),
        (["chat", "--threads", "-1", "x.png"], "1 or more"),
        (["doctor", "--threads", "100000"], "at most"),
        (["bench", "--threads", "100000"], "at most"),
        (["run", "--ctx", "99999999999", "x.png"], "at most"),
        (["run", "--max-tokens", "99999999999", "x.png"], "at most"),
        (["run", "--image-tokens", "99999999999", "x.png"], "at most"),
        (["run", "--image-tokens", "1e3", "x.png"], "neither auto nor a number"),
        (["run", "--gpu-layers", "99999999999", "x.png"], "at most"),
        (["run", "--gpu-layers", "9" * 5000, "x.png"], "gpu-layers"),
        (["run", "--seed", "-1", "x.png"], "0 or more"),
        (["run", "--seed", "4294967295", "x.png"], "at most"),
        (["run", "--temperature", "nan", "x.png"], "between 0 and 10"),
        (["run", "--temperature", "inf", "x.png"], "between 0 and 10"),
        (["run", "--temperature", "1e999", "x.png"], "between 0 and 10"),
        (["run", "--deadline", "0", "x.png"], "above 0"),
        (["run", "--deadline", "99999999min", "x.png"], "at most"),
        (["run", "--deadline", "nan", "x.png"], "no time"),
        (["run", "--cache-size", "101%", "x.png"], "100%"),
        (["run", "--cache-size", "-1GB", "x.png"], "no size"),
        (["run", "--cache-size", "nan", "x.png"], "no size"),
        (["run", "--memory", "0", "x.png"], "less than 1 MB"),
        (["run", "--memory", "infGB", "x.png"], "no size"),
        (["run", "--schema", "none.json", "--ask", "Why?", "x.png"], "cannot be read"),
        (["run", "--schema", "a" * 300, "--ask", "Why?", "x.png"], "File name too long"),
        (["run", "--grammar", "/", "--ask", "Why?", "x.png"], "cannot be read"),
        (["run", "--grammar", "/dev/zero", "--ask", "Why?", "x.png"], "longer than"),
        (["bench", "--json", "--format", "csv"], "one of them"),
        (["bench", "--seconds", "nan"], "more than 0"),
        (["bench", "-r", "99999999999"], "1 to"),
        (["bench", "-o", "a" * 300 + ".json", "-r", "0"], "--repetitions 0"),
        (["bench", "-o", "none/a.json"], "no folder"),
        (["bench", "-o", "/"], "it is a folder"),
        (["tune", "--seconds", "inf"], "at most"),
        (["score", ""], "no such file"),
    ],
)
def test_wrong_calls_are_found_before_anything_is_loaded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    def never(*_arguments: object, **_options: object) -> None:
        raise AssertionError("a model was loaded")

    if arguments != ["score", ""]:
        monkeypatch.setattr("aesedge.engine.loading.LanguageModel", never)
        monkeypatch.setattr("aesedge.engine.loading.VisionTower", never)
    send(monkeypatch, b"")
    code = main(arguments)
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (1 if arguments == ["score", ""] else 2, "", 1)
    assert message in err


def test_what_is_about_photos_needs_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, b"", terminal=True)
    for arguments in (["--ask", "Why?"], ["--report"], ["--pin"], ["--no-critique"], ["--schema", "x"]):
        assert main(["run", *arguments]) == 2
        assert "name one" in capsys.readouterr().err


def test_an_error_of_the_system_where_nobody_expects_it_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle", b"/mnt/caf\xe9")

    monkeypatch.setattr(sys.modules["aesedge.cli.bundles"], "open_bundle", fails)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == "aesedge: /mnt/caf\\xe9: Stale file handle\n"


def test_a_bundle_in_a_locked_folder_is_called_locked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: os.fspath(path) != str(tmp_path))
    for command in (["info", str(tmp_path)], ["verify", str(tmp_path)], ["score", "--bundle", str(tmp_path), "a.png"]):
        assert main(command) != 0
        assert f"{tmp_path}: no permission to read this folder" in capsys.readouterr().err
