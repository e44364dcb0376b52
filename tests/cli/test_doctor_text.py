"""What people see of a machine: text that fits the terminal, JSON, verdicts."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from laid_out import command

from aesedge.cli import main
from aesedge.doctor import Hardware, Libraries, libraries
from aesedge.system.hardware import hardware

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="lays out files of Linux, and scripts for a shell"),
    pytest.mark.usefixtures("short_looks"),
]


@pytest.fixture
def shown(
    bundle_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    def show(*arguments: str, columns: int = 80) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        code = main(["doctor", "--bundle", str(bundle_folder), *arguments])
        return code, *capsys.readouterr()

    return show


@pytest.mark.parametrize("columns", [60, 80, 110, 200])
def test_the_text_fits_the_terminal(shown: Callable[..., tuple[int, str, str]], columns: int) -> None:
    code, out, err = shown(columns=columns)
    assert (code, err) == (0, "")
    titles = ["is it fit", "this machine", "its libraries", "what would be faster", "what disturbs measurements"]
    lines = out.splitlines()
    assert [line for line in lines if line in titles] == titles
    paths = [line for line in lines if "/" in line]  # a word that is longer than the line is broken
    assert max(len(line) for line in lines if line not in paths) <= min(columns, 110)
    assert lines[-2].startswith("fit: ")
    assert "aesedge tune" in out


def test_a_command_can_be_copied(shown: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    from aesedge.cli.doctor_text import advice_section
    from aesedge.doctor import Advice
    from aesedge.llm.binding import build_again

    monkeypatch.setenv("COLUMNS", "60")
    command = build_again("-DGGML_CUDA=on")
    text = advice_section([Advice("llama.cpp", "why", command)])
    assert max(map(len, text.splitlines())) <= 60
    typed = "\n".join(text.splitlines()[2:])
    assert " ".join(typed.replace("\\\n", " ").split()) == command
    assert "nothing that aesedge knows of" in advice_section([])


def test_the_json(shown: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = shown("--json")
    found = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert list(found) == ["bundle", "ok", "checks", "machine", "disks", "libraries", "faster", "disturbances"]
    assert msgspec.convert(found["machine"], Hardware).cpu == hardware().cpu
    assert msgspec.convert(found["libraries"], Libraries) == libraries()
    assert {"what", "why", "command"} == set(found["faster"][0])
    assert {"load", "quota"} <= {sign["what"] for sign in found["disturbances"]}


def test_onnx_runtime_that_is_missing_makes_a_machine_unfit(
    shown: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, out, err = shown()
    assert code == 1
    assert "vision: ONNX Runtime is not installed" in err
    assert "not installed" in out


def test_quiet_says_the_verdict_alone(shown: Callable[..., tuple[int, str, str]]) -> None:
    assert shown("--quiet") == (0, "fit: tiny on this machine\n", "")


def test_a_machine_that_is_unfit_still_hears_what_would_help(shown: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = shown("--memory", "1MB")
    assert code == 1
    assert "memory: bundle 'tiny'" in err
    assert "FAIL" in out
    assert "what would be faster" in out
    assert "NOT FIT" in out.splitlines()[-1]


def test_remarks_do_not_make_a_machine_unfit(
    shown: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "hot", "nvidia-smi", "echo '0x0000000000000040, 99, 95'", monkeypatch)
    code, out, _ = shown()
    assert code == 0
    assert "disturbs  slowed down by heat" in out
