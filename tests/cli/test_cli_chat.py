"""Sessions of the command line: chat from a pipe and on a terminal, its commands, Ctrl-C in an answer."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import cli_runner
import pytest
from cli_runner import Cli, photos, send

from aesedge.cli.chat import photo_path as photo_path_of
from aesedge.engine.answer import AnswerStream

if TYPE_CHECKING:
    from pathlib import Path

cli = cli_runner.cli  # fixture


def test_chat_from_a_pipe(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, b"What?\n\n/score\n/new\nWhy?\n/mood\n/quit\nnever asked\n")
    code, out, err = cli("chat", "--max-tokens", 4, "--json", photo_path)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.get("ask") for line in lines] == ["What?", None, None, "Why?", None]
    assert "/mood" in err


def test_chat_with_a_photo_that_cannot_be_read_fails(cli: Cli, tmp_path: Path) -> None:
    code, out, err = cli("chat", "--json", tmp_path / "none.jpg")
    assert (code, json.loads(out)["error"]["type"], "none.jpg" in err) == (1, "ImageNotFoundError", True)


@pytest.mark.parametrize("command", ["run", "chat"])
def test_interactive_session(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    lines = iter(["What?", str(photo_path), "Why?", "/help", "/critique", "none.jpg", "/bye"])
    send(monkeypatch, b"", terminal=True)
    monkeypatch.setattr("builtins.input", lambda _prompt: next(lines))
    code, out, err = cli(command, "--max-tokens", 4)
    assert code == 0
    assert "no photo yet" in err
    assert "none.jpg" in err
    assert "technical quality" in out
    assert "/quit" in out
    assert out.count("cut at 4 tokens") == 2


def test_ctrl_c_in_an_answer_comes_back_to_the_prompt(
    cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["one", "two", "/quit"])
    original = AnswerStream.__next__
    interrupted: list[bool] = []

    def next_piece(self: Any) -> Any:
        if self.n_tokens > 2 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(AnswerStream, "__next__", next_piece)
    send(monkeypatch, b"", terminal=True)
    monkeypatch.setattr("builtins.input", lambda _prompt: next(lines))
    code, out, _ = cli("chat", "--max-tokens", 6, photo_path)
    assert code == 0
    assert interrupted
    assert "stopped" in out
    assert "cut at 6 tokens" in out


def test_report_in_a_session(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, b"/report\n")
    code, out, _ = cli("chat", "--max-tokens", 6, "--json", photo_path)
    assert code == 0
    assert set(json.loads(out)["report"]) == {"attributes", "strengths", "faults", "advice"}


def test_turns_can_be_taken_back_and_photos_kept(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, b"/undo\none\n/retry\n/undo\n/undo\n/pin\n/unpin\n/unpin\n")
    code, out, err = cli("chat", "--max-tokens", 4, photo_path)
    assert code == 0
    assert "taken back: one" in out
    assert err.count("nothing was said yet") == 2
    assert ("kept on disk" in out, "no longer kept" in out, "was not kept" in out) == (True, True, True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{photo}", True),
        ("'{photo}'", True),
        ('"{photo}"', True),
        ("file://{quoted}", True),
        ("{escaped}", True),
        ("missing.jpg", True),
        ("What is wrong with this photo?", False),
        ("is photo.jpg sharp?", False),
        ("don't know", False),
    ],
)
def test_lines_that_mean_a_photo(tmp_path: Path, line: str, *, expected: bool) -> None:
    (photo,) = photos(tmp_path, 1)
    text = line.format(photo=photo, quoted=str(photo).replace(" ", "%20"), escaped=str(photo).replace(" ", "\\ "))
    found = photo_path_of(text)
    assert (found is not None) is expected
    if "{" in line:
        assert found == str(photo)


@pytest.mark.parametrize(
    "line",
    [
        b"a" * 256,
        "这张照片怎么样".encode() * 15,  # 315 bytes
        b"/" + b"a/" * 3000,
        b"'" + b"a" * 5000 + b"'",
        b"~nice light, is it?",
        b"~",
        b"~/",
        b"~nobody/a b",
        b"file://[::1/a.jpg",
        b"file://",
        b"file:///a%00b.jpg",
        b"file://%ff",
        b"is it caf\xe9?",
        b"\xff\xfe\x80.jpg",
        b"nul\0 in it",
        b"a\0b.jpg",
        b"\x1b[2J\x9b\x07",
        b"/dev/zero",
        b"/dev/full.jpg",
        b"'not closed",
        b'"',
        b"\\",
        b"$(rm -rf /)",
        b"-",
        b"--help",
        b"/proc/self/mem",
        b"/root/../root/./a.jpg",
        b"con.jpg",
        b"</s>",
        b"USER: ASSISTANT: <image>",
    ],
)
def test_no_line_ends_the_session(
    cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: bytes
) -> None:
    for command, arguments, before in (("chat", [photo_path], b""), ("run", [], bytes(photo_path) + b"\n")):
        send(monkeypatch, before + line + b"\nAnd this?\n")
        asked = iter([command == "run"])  # is it a terminal: for a session without a photo, yes; for its lines, no
        monkeypatch.setattr(sys.stdin, "isatty", lambda asked=asked: next(asked, False))
        code, out, err = cli(command, "--json", "--max-tokens", 2, *arguments)
        assert code == 0
        lines = [json.loads(text) for text in out.splitlines()]
        assert lines[-1]["ask"] == "And this?"
        assert len([text for text in lines if "ask" in text]) + len(err.splitlines()) >= 2
        assert "\x1b" not in out + err


def test_a_locked_folder_in_a_line_is_one_line_on_stderr(
    cli: Cli, photo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def locked(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and "no entry" in os.fspath(path):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", locked)
    folder = tmp_path / "no entry"
    send(monkeypatch, f"'{folder}/a.jpg'\n{folder}/a\nIs {folder}/a sharp?\n".encode())
    code, out, err = cli("chat", "--json", "--max-tokens", 2, photo_path)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, [line["kind"] for line in lines]) == (0, ["error", "error", "answer"])
    assert lines[-1]["ask"] == f"Is {folder}/a sharp?"
    assert ([*map(len, err.splitlines())][2:], "no permission" in err, "there is no /" in err) == ([], True, True)


def test_photos_of_any_name_are_found_by_lines(tmp_path: Path) -> None:
    for name in ("café.png", os.fsdecode(b"caf\xe9.png"), "two  spaces.png", "~tilde.png", "quote'\".png"):
        path = tmp_path / name
        path.touch()
        assert photo_path_of(str(path)) == str(path)
        assert photo_path_of(path.as_uri()) == str(path)


ONE_RESULT_A_LINE = {
    "/help": ("help", {"commands"}),
    "/undo": ("error", {"error"}),
    "one": ("answer", {"ask", "answer", "finish_reason"}),
    "/retry": ("answer", {"ask", "answer", "finish_reason"}),
    "/undo ": ("undo", {"ask"}),
    "/pin": ("pin", {"ok"}),
    "/unpin": ("unpin", {"ok"}),
    "/unpin ": ("unpin", {"ok"}),
    "/score": ("score", {"score", "attributes", "timings"}),
    "/report": ("report", {"report"}),
    "/critique": ("answer", {"ask", "answer", "finish_reason"}),
    "/new": ("new", set()),
    "none.jpg": ("error", {"error"}),
    "/mood": ("error", {"error"}),
    "PHOTO": ("photo", set()),
}


def test_every_line_has_one_line_of_json(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f"{line}\n" for line in ONE_RESULT_A_LINE).replace("PHOTO", str(photo_path))
    send(monkeypatch, lines.encode())
    code, out, err = cli("chat", "--json", "--max-tokens", 4, photo_path)
    found = [json.loads(line) for line in out.splitlines()]
    assert (code, len(err.splitlines())) == (0, 3)
    assert [line["kind"] for line in found] == [kind for kind, _ in ONE_RESULT_A_LINE.values()]
    for line, (_, fields) in zip(found, ONE_RESULT_A_LINE.values(), strict=True):
        assert line["photo"] == str(photo_path)
        assert fields <= set(line)
    assert [line["ok"] for line in found if "ok" in line] == [True, True, False]


def test_a_session_ends_with_its_terminal(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise OSError(5, "Input/output error")

    send(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "readline", gone, raising=False)
    code, _, err = cli("chat", photo_path)
    assert (code, "stdin: cannot be read: Input/output error" in err) == (0, True)
