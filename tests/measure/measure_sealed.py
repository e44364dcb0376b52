"""Run a kiosk in namespaces of its own: does a packet leave, is a name asked for, is a file written?

    PYTHONPATH=tests unshare -rnm python tests/measure/measure_sealed.py kiosk|control|read-only|full FOLDER SECONDS

The network has a way out that ends at a recorder: a pair of virtual interfaces with addresses and default routes, and a
name server that answers every name with an address there. ``control`` runs plain Chromium, which must be seen. The last
line of stdout is JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from browser import CHROMIUM
from kiosk_page import wait_done, write_camera
from kiosk_whole import whole_kiosk

NETWORK = """
ip link set lo up
ip link add out type veth peer name recorder
ip addr add 10.99.0.2/24 dev out
ip addr add fd99::2/64 dev out nodad
ip link set out up
ip link set recorder up
ip neigh add 10.99.0.1 lladdr 02:00:00:00:00:01 dev out
ip neigh add fd99::1 lladdr 02:00:00:00:00:01 dev out
ip route add default via 10.99.0.1
ip -6 route add default via fd99::1
"""


def command(line: str) -> None:
    """Run a command of the system."""
    name, *arguments = line.split()
    subprocess.run([shutil.which(name) or name, *arguments], check=True)


class Recorder:
    """Writes down every packet that leaves, and every name that is asked for."""

    def __init__(self, folder: Path) -> None:
        for line in NETWORK.strip().splitlines():
            command(line)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        command(f"mount --bind {folder}/resolv.conf {os.path.realpath('/etc/resolv.conf')}")
        self.packets: list[str] = []
        self.names: list[str] = []
        self._line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._line.bind(("recorder", 0))
        self._asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._asked.bind(("127.0.0.1", 53))
        threading.Thread(target=self._record, daemon=True).start()
        threading.Thread(target=self._answer, daemon=True).start()

    def _record(self) -> None:
        while True:
            packet, told = self._line.recvfrom(65535)
            if told[2] == socket.PACKET_OUTGOING:
                continue
            kind = struct.unpack("!H", packet[12:14])[0]
            if kind == 0x86DD and packet[20] in {0, 58}:  # the kernel's own talk about neighbours
                continue
            to = socket.inet_ntop(socket.AF_INET, packet[30:34]) if kind == 0x0800 else f"ethertype {kind:#x}"
            if kind == 0x86DD:
                to = socket.inet_ntop(socket.AF_INET6, packet[38:54])
            self.packets.append(to)

    def _answer(self) -> None:
        while True:
            asked, sender = self._asked.recvfrom(4096)
            labels, at = [], 12
            while asked[at]:
                labels.append(asked[at + 1 : at + 1 + asked[at]].decode("latin-1"))
                at += 1 + asked[at]
            self.names.append(".".join(labels))
            question = asked[12 : at + 5]
            is_a = asked[at + 1 : at + 3] == b"\0\1"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton("10.99.0.9") if is_a else b""
            head = asked[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
            self._asked.sendto(head + question + answer, sender)


def kiosk(folder: Path, film: Path, seconds: float, **environment: str) -> dict[str, Any]:
    """Run a kiosk, take two photos, wait; returns what the page said."""
    with whole_kiosk(folder, film, "--threads", "1", **environment) as running:
        running.wait_home(100)
        scores = []
        with running.page() as page:
            page.set_default_timeout(30_000)
            for _ in range(2):
                page.wait_for_function("() => document.body.dataset.state === 'attract'")
                page.evaluate("() => performance.clearMarks()")
                page.click("#primary")
                page.click("#primary")
                wait_done(page)
                scores.append(page.inner_text("#points"))
                page.click("#secondary")
            time.sleep(seconds)
        profile = next(
            word.partition("=")[2] for word in running.browser().cmdline() if word.startswith("--user-data-dir=")
        )
        there = Path(profile).is_dir()
    time.sleep(0.5)
    return {"scores": scores, "profile": profile, "profile_was_there": there, "profile_is_left": Path(profile).exists()}


def control(folder: Path, seconds: float) -> dict[str, Any]:
    """Run plain Chromium."""
    flags = ["--headless=new", "--no-sandbox", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    with subprocess.Popen(
        [str(CHROMIUM), *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        time.sleep(seconds)
        process.terminate()
    return {}


def main() -> None:
    """Read the command line, run, print what was seen."""
    mode, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    film = write_camera(folder / "film.mjpeg")
    recorder = Recorder(folder)
    small = folder / "small"
    small.mkdir()
    empty = folder / "home"
    empty.mkdir()
    environment = {"HOME": str(empty), "TMPDIR": str(empty)}
    os.environ["TMPDIR"] = str(folder)  # of Playwright, which writes
    if mode in {"full", "read-only"}:
        environment = {"HOME": str(small), "TMPDIR": str(small)}
    if mode == "full":
        command(f"mount -t tmpfs -o size=64k tmpfs {small}")
        with (small / "fill").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 4096)
    if mode == "read-only":
        command(f"mount --bind {folder} {folder}")  # the test's own report
        command("mount -o remount,bind,ro /")
        command(f"mount -t tmpfs -o size=64k,ro tmpfs {small}")
    found = control(folder, seconds) if mode == "control" else kiosk(folder, film, seconds, **environment)
    written = [str(path.relative_to(empty)) for path in empty.rglob("*") if path.is_file()]
    told = {"written": written, "names": recorder.names, "packets": sorted(set(recorder.packets))}
    print(json.dumps({**found, **told}))


if __name__ == "__main__":
    main()
