"""A Hugging Face hub on this machine: the part of its HTTP API that downloads use, and faults on demand.

Large files answer with a redirect to another address, as on the real hub; that address takes ranges.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = (".safetensors", ".bin", ".model")
_PIECE = 1 << 14


@dataclass
class Sent:
    """One answer with (a part of) a large file."""

    path: str
    start: int
    n_bytes: int


@dataclass
class Hub:
    """What the server has, what it does wrong, and what was asked of it."""

    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    """Repository to commit to path to content; commits oldest first."""
    branches: dict[str, str] = field(default_factory=dict)
    """Repository to the commit of main."""
    card: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    """Path to the numbers of bytes after which its first answers break off; those that follow are whole."""
    corrupt: set[str] = field(default_factory=set)
    """Paths of which one byte is wrong."""
    closed_to: set[str] = field(default_factory=set)
    """Repositories that only the token opens."""
    token: str = "hf_open_sesame"  # noqa: S105
    xet: bool = False
    """Whether large files say that Xet has them too, which needs servers that are not here."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path."""
    sent: list[Sent] = field(default_factory=list)
    slow: threading.Event | None = None
    """When set, answers stop in the middle until it is set."""
    url: str = ""

    def publish(self, repository: str, folder: Path | dict[str, bytes]) -> str:
        """Make a folder the newest commit of a repository; return the commit."""
        if isinstance(folder, dict):
            files = dict(folder)
        else:
            paths = (path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        history = self.commits.setdefault(repository, {})
        content = b"".join(sha256(data).encode() for _, data in sorted(files.items()))
        commit = hashlib.sha1(content + bytes(len(history)), usedforsecurity=False).hexdigest()
        history[commit] = files
        self.branches[repository] = commit
        return commit

    def n_sent(self, path: str) -> int:
        """Return how many bytes of a large file were sent in all."""
        return sum(sent.n_bytes for sent in self.sent if sent.path == path)

    def n_body_requests(self) -> int:
        """Return how often any file's content was asked for."""
        return sum(method == "GET" and ("/resolve/" in path or "/cdn/" in path) for method, path in self.requests)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub on a free port of this machine."""
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with _Server(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            if hub.slow is not None:
                hub.slow.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *arguments: Any) -> None:
        """Stay quiet."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|commits)/(.+))?", path):
            self._api(found[1], found[2] or "revision", found[3] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
            self._large(found[1], found[2], found[3])
        else:
            self._refuse(404, "", "no such page")

    def _commit(self, repository: str, revision: str) -> str:
        """Return the commit, or answer and return nothing; short hashes are refused, as by the real hub."""
        if repository in self.hub.closed_to and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._refuse(401, "GatedRepo", f"Access to model {repository} is restricted")
            return ""
        if repository not in self.hub.commits:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
            return ""
        commit = self.hub.branches[repository] if revision == "main" else revision
        if commit not in self.hub.commits[repository]:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return ""
        return commit

    def _api(self, repository: str, kind: str, revision: str) -> None:
        commit = self._commit(repository, revision)
        if not commit:
            return
        if kind == "commits":
            newest_first = list(reversed(self.hub.commits[repository]))
            fields = {"title": "upload", "message": "", "authors": [], "date": "2024-03-25T00:00:00.000Z"}
            self._send(json.dumps([{"id": commit, **fields} for commit in newest_first]).encode())
            return
        siblings = [_sibling(path, data) for path, data in sorted(self.hub.commits[repository][commit].items())]
        info = {"id": repository, "sha": commit, "siblings": siblings, "tags": [], "config": self.hub.config}
        self._send(json.dumps({**info, "cardData": self.hub.card or None}).encode())

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        commit = self._commit(repository, revision)
        if not commit:
            return
        data = self.hub.commits[repository][commit].get(path)
        if data is None:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit}
        if path.endswith(LARGE):
            headers |= {"X-Linked-Etag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
            headers["Location"] = f"{self.hub.url}/cdn/{repository}/{commit}/{path}?signature=s3cret"
            if self.hub.xet:
                headers |= {"X-Xet-Hash": sha256(data), "X-Xet-Refresh-Route": f"{self.hub.url}/xet"}
            self._send(b"Found. Redirecting", status=302, **headers)
        else:
            self._send(self._content(path, data), **{**headers, "ETag": f'"{git_sha1(data)}"'})

    def _content(self, path: str, data: bytes) -> bytes:
        if path not in self.hub.corrupt:
            return data
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    def _large(self, repository: str, commit: str, path: str) -> None:
        data = self._content(path, self.hub.commits[repository][commit][path])
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        if asked and start >= len(data):
            self._send(b"", status=416, **{"Content-Range": f"bytes */{len(data)}"})
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        sent = Sent(path, start, 0)
        self.hub.sent.append(sent)
        cuts = self.hub.cut_after.get(path)
        stop = min(len(data), start + cuts.pop(0)) if cuts else len(data)
        self._write_pieces(data[start:stop], sent)
        if stop < len(data):
            self.close_connection = True

    def _write_pieces(self, data: bytes, sent: Sent) -> None:
        try:
            for i in range(0, len(data), _PIECE):
                if self.hub.slow is not None and i >= len(data) // 2:
                    self.hub.slow.wait(30)
                self.wfile.write(data[i : i + _PIECE])
                sent.n_bytes += len(data[i : i + _PIECE])
        except (BrokenPipeError, ConnectionResetError):  # the other side was killed
            self.close_connection = True

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(json.dumps({"error": message}).encode(), status=status, **{"X-Error-Code": code})

    def _send(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sibling(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
    if path.endswith(LARGE):
        entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
    return entry
