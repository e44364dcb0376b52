"""Sessions of the command line: chat from a pipe and on a terminal, its commands, Ctrl-C in an answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cli_runner
import pytest
from cli_runner import Cli, photos, send

from aesedge.cli.session import photo_path as photo_path_of
from aesedge.reply import Reply

if TYPE_CHECKING:
    from pathlib import Path

cli = cli_runner.cli  # fixture


def test_chat_from_a_pipe(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, b"What?\n\n/score\n/new\nWhy?\n/mood\n/quit\nnever asked\n")
    code, out, err = cli("chat", "--max-tokens", 4, "--json", photo_path)
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.get("ask") for line in lines] == ["What?", None, "Why?"]
    assert "/mood" in err


def test_chat_without_a_photo_fails(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli("chat", tmp_path / "none.jpg")
    assert code == 2
    assert "none.jpg" in err


def test_interactive_session(cli: Cli, photo_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["What?", str(photo_path), "Why?", "/help", "/critique", "none.jpg", "/bye"])
    send(monkeypatch, b"", terminal=True)
    monkeypatch.setattr("builtins.input", lambda _prompt: next(lines))
    code, out, err = cli("run", "--max-tokens", 4)
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
    original = Reply.__iter__
    interrupted: list[bool] = []

    def pieces(self: Any) -> Any:
        for i, piece in enumerate(original(self)):
            if i == 2 and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt
            yield piece

    monkeypatch.setattr(Reply, "__iter__", pieces)
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
