"""What makes a machine a kiosk: a unit for systemd, a user, Chromium's policy; printed, and written only where told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aesedge.errors import UsageError
from aesedge.system.atomic_file import write_atomic
from aesedge.system.error_text import error_text

if TYPE_CHECKING:
    from collections.abc import Sequence

USER = "aesedge-kiosk"
UNIT = "etc/systemd/system/aesedge-kiosk.service"
SYSUSERS = "etc/sysusers.d/aesedge-kiosk.conf"
JOURNAL = "etc/systemd/journald.conf.d/aesedge-kiosk.conf"
POLICY = "etc/chromium/policies/managed/aesedge-kiosk.json"

_UNIT = """\
[Unit]
Description=aesedge kiosk: a full-screen page with a camera
Wants=seatd.service
After=seatd.service systemd-user-sessions.service getty@tty1.service
Conflicts=getty@tty1.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
User={user}
SupplementaryGroups=video render input
ExecStart=/usr/bin/cage -d -- {command}
Restart=always
RestartSec=1
WatchdogSec=60
TimeoutStartSec=10min
TimeoutStopSec=30
RuntimeDirectory=aesedge-kiosk
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/aesedge-kiosk LIBSEAT_BACKEND=seatd
Environment=AESEDGE_CACHE=/run/aesedge-kiosk/cache AESEDGE_HOME=/var/lib/aesedge
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
IPAddressDeny=any
IPAddressAllow=localhost

[Install]
WantedBy=multi-user.target
"""
# Without PAMName: a login session would take cage out of this unit, and with it the watchdog and the address filter.

_SYSUSERS = f"""\
u {USER} - "aesedge kiosk" - -
m {USER} video
m {USER} render
m {USER} input
"""

STEPS = f"""
Steps, as root, from a Debian 12 or 13 without a desktop; docs/kiosk.md says more:
  1. apt-get install --no-install-recommends chromium cage seatd fonts-dejavu-core fonts-noto-cjk
  2. aesedge kiosk --install --write /        (with the options that the kiosk is to have)
  3. systemd-sysusers && systemctl daemon-reload
  4. systemctl enable --now seatd aesedge-kiosk
  5. systemctl status aesedge-kiosk           active (running) means that the page is there and the model answers
  Read-only, once all works:
  6. apt-get install overlayroot
     echo 'overlayroot="tmpfs:recurse=0"' > /etc/overlayroot.local.conf
  7. swapoff -a && sed -i '/\\sswap\\s/d' /etc/fstab     memory is written to no disk either
  8. update-initramfs -u && reboot
  To change anything later: overlayroot-chroot, then the commands.
The user is {USER}; the kiosk writes below /run and /dev/shm, which are memory.
"""


def command_of(argv: Sequence[str], *, config: Path | None, folder: Path | None) -> list[str]:
    """Return the command of this call as a unit starts it: without ``--install``, with absolute paths.

    Args:
        argv: of this call.
        config: its ``--config``.
        folder: its ``--folder``.
    """
    words = _without_install(argv[1:])
    for option, path in (("--config", config), ("--folder", folder)):
        if path is not None:
            given, there = str(path), str(path.resolve())
            words = [
                there if word == given else f"{option}={there}" if word == f"{option}={given}" else word
                for word in words
            ]
    return [str(Path(argv[0]).resolve()), *words]


def _without_install(words: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--write":
            skip = True
        elif word != "--install" and not word.startswith("--write="):
            kept.append(word)
    return kept


def files(command: Sequence[str], *, port: int, folder: Path | None) -> dict[str, str]:
    """Return the files: path below the root, and content.

    Args:
        command: what the unit starts.
        port: of the page, which alone may use the camera.
        folder: where a tethered camera writes; then no page needs a camera.
    """
    quoted = " ".join(shlex.quote(word).replace("%", "%%").replace("$", "$$") for word in command)
    address = f"http://127.0.0.1:{port}"
    policy = {
        "VideoCaptureAllowed": False,
        "VideoCaptureAllowedUrls": [] if folder else [address],
        "AudioCaptureAllowed": False,
        "URLBlocklist": ["*"],
        "URLAllowlist": [address],
        "BackgroundModeEnabled": False,
        "BrowserSignin": 0,
        "BuiltInDnsClientEnabled": False,
        "ComponentUpdatesEnabled": False,
        "DefaultBrowserSettingEnabled": False,
        "DeveloperToolsAvailability": 2,
        "DnsOverHttpsMode": "off",
        "DownloadRestrictions": 3,
        "MetricsReportingEnabled": False,
        "NetworkPredictionOptions": 2,
        "PasswordManagerEnabled": False,
        "PrintingEnabled": False,
        "QuicAllowed": False,
        "SafeBrowsingProtectionLevel": 0,
        "SearchSuggestEnabled": False,
        "SpellcheckEnabled": False,
        "SyncDisabled": True,
        "TranslateEnabled": False,
    }
    return {
        UNIT: _UNIT.format(command=quoted, user=USER),
        SYSUSERS: _SYSUSERS,
        JOURNAL: "[Journal]\nStorage=volatile\n",
        POLICY: json.dumps(policy, indent=2) + "\n",
    }


def shown(made: dict[str, str]) -> str:
    """Return the files as text, each under its path."""
    return "".join(f"# /{path}\n{content}\n" for path, content in made.items())


def write(made: dict[str, str], root: Path) -> list[Path]:
    """Write the files below a folder; returns their paths.

    Raises:
        UsageError: the folder is not there, or one of them cannot be written.
    """
    if not root.is_dir():
        raise UsageError(f"--write {root}: there is no such folder; make it, or write / for this machine")
    written = []
    for name, content in made.items():
        path = root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, content.encode())
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error_text(error)}") from None
        written.append(path)
    return written
