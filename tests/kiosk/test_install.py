"""What makes a machine a kiosk: files that systemd and Chromium accept, and a policy that this page alone passes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import CHROMIUM
from kiosk_page import write_camera

from aesedge.cli import main
from aesedge.kiosk import install

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = [install.UNIT, install.SYSUSERS, install.JOURNAL, install.POLICY]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bin/aesedge", "kiosk", *arguments])
    return main(["kiosk", *arguments])


def test_everything_is_printed_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "--install") == 0
    said = capsys.readouterr().out
    assert all(f"# /{name}\n" in said for name in NAMES)
    assert "Steps, as root" in said
    assert list(tmp_path.iterdir()) == []


def test_files_are_written_where_told_with_the_options_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kiosk.toml").write_text("language = 'de'")
    (tmp_path / "50 % off $HOME").mkdir()
    options = ["--config", "kiosk.toml", "--folder=50 % off $HOME", "--port", "9000", "--deadline", "9s"]
    (tmp_path / "root").mkdir()
    assert call(monkeypatch, "--install", *options, "--write", "root") == 0
    written = sorted(
        str(path.relative_to(tmp_path / "root")) for path in (tmp_path / "root").rglob("*") if path.is_file()
    )
    assert written == sorted(NAMES)
    said = capsys.readouterr().out
    assert all(f"wrote root/{name}\n" in said for name in NAMES)
    unit = (tmp_path / "root" / install.UNIT).read_text()
    line = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    words = shlex.split(line.removeprefix("ExecStart=").replace("%%", "%").replace("$$", "$"))
    assert words == [
        *("/usr/bin/cage", "-d", "--", str(tmp_path / "bin" / "aesedge"), "kiosk"),
        *("--config", str(tmp_path / "kiosk.toml"), f"--folder={tmp_path / '50 % off $HOME'}"),
        *("--port", "9000", "--deadline", "9s"),
    ]
    policy = json.loads((tmp_path / "root" / install.POLICY).read_text())
    assert policy["URLAllowlist"] == ["http://127.0.0.1:9000"]
    assert policy["VideoCaptureAllowedUrls"] == []  # a tethered camera's photos need none


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    made = install.files([sys.executable, "-m", "aesedge", "kiosk"], port=8181, folder=None)
    cage = tmp_path / "cage"  # a program that is there
    cage.write_text("#!/bin/sh\n")
    cage.chmod(0o755)
    unit = tmp_path / "aesedge-kiosk.service"
    unit.write_text(made[install.UNIT].replace("/usr/bin/cage", str(cage)))
    done = subprocess.run(
        [str(shutil.which("systemd-analyze")), "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if "seatd.service" not in line and "unshare" not in line]
    assert (done.returncode, told) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
def test_systemd_makes_the_user(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "group").write_text("video:x:44:\nrender:x:104:\ninput:x:105:\n")
    (tmp_path / "kiosk.conf").write_text(install.files([], port=1, folder=None)[install.SYSUSERS])
    command = [str(shutil.which("systemd-sysusers")), "--root", str(tmp_path), str(tmp_path / "kiosk.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    groups = (tmp_path / "etc" / "group").read_text()
    assert all(f"{name}:x:{number}:{install.USER}" in groups for name, number in (("video", 44), ("input", 105)))


ASK = """
async () => {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: true });
    stream.getTracks().forEach((track) => track.stop());
    return "allowed";
  } catch (error) { return error.name; }
}
"""
IN_NAMESPACE = """
import json, subprocess, sys, threading, http.server
from pathlib import Path
from playwright.sync_api import sync_playwright
policies, film, chromium, ask = sys.argv[1:5]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/chromium"], check=True)
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
other = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
for one in (server, other):
    threading.Thread(target=one.serve_forever, daemon=True).start()
managed = Path("/etc/chromium/policies/managed")
managed.mkdir(parents=True)
(managed / "kiosk.json").write_text(Path(policies).read_text().replace(":8181", f":{server.server_port}"))
flags = ["--no-sandbox", "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={film}"]
said = []
with sync_playwright() as started:
    browser = started.chromium.launch(executable_path=chromium, args=flags)
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    said.append(page.evaluate(ask))
    try:
        page.goto(f"http://127.0.0.1:{other.server_port}/")
        said.append(page.evaluate(ask))
    except Exception as error:
        said.append("blocked" if "ERR_BLOCKED_BY_ADMINISTRATOR" in str(error) else str(error))
    browser.close()
print(json.dumps(said))
"""


def unshared() -> Sequence[str]:
    return ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.skipif(not Path("/etc/chromium").is_dir(), reason="this Chromium has its policies elsewhere")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_chromium_obeys_the_policy(tmp_path: Path) -> None:
    """The page's address gets the camera without a question; no other page is even opened."""
    pytest.importorskip("playwright")
    film = write_camera(tmp_path / "film.mjpeg")
    policy = json.loads(install.files([], port=8181, folder=None)[install.POLICY])
    policy["URLAllowlist"].append("about:blank")  # with which Playwright begins
    policy["DeveloperToolsAvailability"] = 1  # through which it talks to Chromium
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    command = [*unshared(), sys.executable, "-c", IN_NAMESPACE]
    done = subprocess.run(
        [*command, str(tmp_path / "policy.json"), str(film), str(CHROMIUM), ASK],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["allowed", "blocked"]
