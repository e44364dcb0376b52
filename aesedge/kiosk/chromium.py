"""Find Chromium, give it a profile in memory and flags that keep it from calling home, start and end it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from aesedge.errors import UsageError
from aesedge.kiosk.child import ends_with_parent
from aesedge.serve.sd_notify import without_systemd

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_PREFIX = "aesedge-kiosk-"
_IN_MEMORY = {"tmpfs", "ramfs"}
FLAGS = (
    "--kiosk",
    "--no-first-run",
    "--no-default-browser-check",
    "--noerrdialogs",
    "--disable-infobars",
    "--disable-session-crashed-bubble",
    "--hide-crash-restore-bubble",
    "--disable-pinch",
    "--overscroll-history-navigation=0",
    "--password-store=basic",
    "--disable-features=Translate,OverscrollHistoryNavigation,MediaRouter,OptimizationHints",
    # What calls home.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-domain-reliability",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-default-apps",
    "--disable-extensions",
    "--metrics-recording-only",
    "--no-pings",
    "--dns-prefetch-disable",
    "--disable-quic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    # Whatever asks for a name in spite of all that hears that there is none, and no question leaves the process.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    # Nothing about guests in a cache.
    "--disk-cache-size=1",
    "--media-cache-size=1",
    "--disable-gpu-shader-disk-cache",
    # The page is all that there is: it is never slowed down as a background.
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)
"""Of every start; those of the operator come after."""


def find_chromium(named: str = "") -> str:
    """Return the path of Chromium's program.

    Args:
        named: by the operator; empty looks for the usual names.

    Raises:
        UsageError: there is none.
    """
    if named:
        found = shutil.which(named)
        if found is None:
            raise UsageError(f"browser: there is no program {named!r}; write the path of Chromium's")
        return found
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found is None:
        raise UsageError(
            "Chromium is not installed: sudo apt-get install chromium, or name its program as browser in the --config "
            "file, or open the page yourself with --no-browser"
        )
    return found


def refuse_root(flags: Sequence[str]) -> None:
    """See that Chromium, whose sandbox needs a user of its own, is not started as root.

    Raises:
        UsageError: it would be.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--no-sandbox" not in flags:
        raise UsageError(
            "Chromium's sandbox does not work for root; run the kiosk as another user (aesedge kiosk --install shows "
            "how), or serve the page alone with --no-browser"
        )


def memory_folder() -> Path:
    """Return a folder that lies in memory.

    Raises:
        UsageError: there is none on this Linux; other systems have no such folder, and get one that is removed.
    """
    mounts = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    if sys.platform != "linux":
        return Path(tempfile.gettempdir())
    candidates = ["/dev/shm", os.environ.get("XDG_RUNTIME_DIR", ""), os.environ.get("TMPDIR", ""), "/tmp"]  # noqa: S108 (looked at, not written to)
    for candidate in filter(None, candidates):
        folder = Path(candidate)
        mount = next((str(parent) for parent in (folder, *folder.parents) if str(parent) in mounts), "")
        if mounts.get(mount) in _IN_MEMORY and os.access(folder, os.W_OK):
            return folder
    raise UsageError(
        "there is no folder in memory that can be written (/dev/shm, $XDG_RUNTIME_DIR), and the browser's profile is "
        "kept on no disk; mount a tmpfs at /dev/shm"
    )


def display_flags(flags: Sequence[str]) -> list[str]:
    """Return what makes Chromium use Wayland where it is there: in cage, X may be missing.

    Args:
        flags: of the operator, who may have chosen.
    """
    if not os.environ.get("WAYLAND_DISPLAY") or any(
        flag.startswith(("--ozone-platform", "--headless")) for flag in flags
    ):
        return []
    return ["--ozone-platform=wayland"]


class Chromium:
    """Chromium with the page of the kiosk, in a profile of its own that ends with it.

    Args:
        program: its path.
        address: of the server, such as ``http://127.0.0.1:8181``.
        flags: of the operator.
    """

    def __init__(self, program: str, address: str, flags: Sequence[str]) -> None:
        _remove_profiles_of_the_dead()
        # Each start has a profile of its own: one that a crash left half-written ends no other.
        self._profile = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=memory_folder()))
        _write_preferences(self._profile, address)
        own = [*FLAGS, *display_flags(flags), f"--user-data-dir={self._profile}"]
        command = [program, *own, *flags, f"{address}/kiosk"]
        self._process = subprocess.Popen(  # noqa: S603 (the operator's browser)
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(self._profile),
            **ends_with_parent(),
        )

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it and all of its processes, and remove its profile."""
        for sign, wait_s in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(wait_s)
        shutil.rmtree(self._profile, ignore_errors=True)


def _environment(profile: Path) -> dict[str, str]:
    """Return variables that keep everything Chromium writes, crash reports and shared memory included, in its profile.

    Debian's starter moves shared memory to ``$TMPDIR`` where /dev/shm is small: without this, to a disk.
    """
    authority = os.environ.get("XAUTHORITY", str(Path("~/.Xauthority").expanduser()))
    places = ("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    return {**without_systemd(), **dict.fromkeys(places, str(profile)), "XAUTHORITY": authority}


def _write_preferences(profile: Path, address: str) -> None:
    """Let this one page use the camera, and no other: a question on a screen without a keyboard has no answer."""
    allowed = {"media_stream_camera": {f"{address},*": {"setting": 1}}}
    told = {
        "profile": {
            "content_settings": {"exceptions": allowed},
            "exit_type": "Normal",
            "password_manager_enabled": False,
        },
        "credentials_enable_service": False,
        "net": {"network_prediction_options": 2},
        "search": {"suggest_enabled": False},
        "safebrowsing": {"enabled": False},
        "alternate_error_pages": {"enabled": False},
        "translate": {"enabled": False},
        "signin": {"allowed": False},
    }
    (profile / "Default").mkdir()
    (profile / "Default" / "Preferences").write_text(json.dumps(told), encoding="utf-8")


def _remove_profiles_of_the_dead() -> None:
    """Remove what a kiosk that was killed left in memory."""
    for path in memory_folder().glob(f"{_PREFIX}*-*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and int(owner) != os.getpid() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
