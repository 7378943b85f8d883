"""A model hub on 127.0.0.1: the part of the Hugging Face hub's HTTP interface that huggingface_hub downloads with.

`/api/models/ID/revision/REVISION` tells the commit and the files; `/ID/resolve/REVISION/FILE` gives a file or, of large
ones, a redirect to another origin, as from the real hub to its storage, which takes Range and must never see a token.
Errors carry X-Error-Code as the real hub's do. Every request is noted, and any file can be made to fail.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".h5", ".msgpack")  # kept as LFS objects, which have a SHA-256
LIST = "the list of files"  # stands for it among the names of files


@dataclass
class Fault:
    """What goes wrong with the requests `method` for a file, the first `times` of them."""

    method: str = "GET"
    times: int = 1_000_000
    status: int | None = None  # the answer has this status
    content: bytes | None = None  # other content than was announced
    cut_after: int | None = None  # the connection breaks after so many bytes
    hangs: bool = False  # no answer until the hub closes
    closes: bool = False  # the hub goes down with it


@dataclass
class Repository:
    """The files of each commit, what the branches and tags stand for, and which tokens may read it."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    readers: frozenset[str] = frozenset()

    def commit(self, files: Mapping[str, bytes] | Path, ref: str = "main") -> str:
        """Add a commit with `files`, or those of a folder, and put the branch or tag `ref` on it; return its hash."""
        if isinstance(files, Path):
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in files.rglob("*.*")}
        commit = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = dict(files)
        self.refs[ref] = commit
        return commit


@dataclass(frozen=True)
class Request:
    """A request that came in; `name` is that of the file, or `LIST`."""

    method: str
    path: str
    name: str
    token: str | None
    range: str | None


class Hub:
    """The hub: its repositories by id, the tokens that it knows, faults by file name, and what it was asked for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.tokens: set[str] = set()
        self.faults: dict[str, Fault] = {}
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def storage(self) -> str:
        """Where large files are: another origin, since it has another name."""
        return f"http://localhost:{self._server.server_port}"

    def add(self, name: str, files: Mapping[str, bytes] | Path, repository: Repository | None = None) -> str:
        """Add a repository with a first commit on main; return its hash."""
        self.repositories[name] = repository or Repository()
        self.tokens |= self.repositories[name].readers
        return self.repositories[name].commit(files)

    def downloads(self) -> list[str]:
        """Return the names of the files whose content was asked for since the last call."""
        names = [request.name for request in self.requests if request.method == "GET" and request.name != LIST]
        self.requests.clear()
        return sorted(names)

    def find(self, sha256: str) -> tuple[str, bytes]:
        """Return the name and content of a large file."""
        files = [file for r in self.repositories.values() for commit in r.commits.values() for file in commit.items()]
        return next((name, content) for name, content in files if _sha256(content) == sha256)

    def close(self) -> None:
        """Go down: from now on the port refuses connections."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run an empty hub."""
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.hub.closing.is_set():  # a connection that was open before
            self.close_connection = True
            return
        path = urlsplit(self.path).path
        token = self.headers["Authorization"]
        self.token = token.removeprefix("Bearer ") if token else None
        if path.startswith("/lfs/"):
            self.lfs(path.removeprefix("/lfs/"))
        elif path.startswith("/api/models/"):
            self.model(*map(unquote, path.removeprefix("/api/models/").split("/revision/")))
        elif "/resolve/" in path:
            repository, _, rest = path[1:].partition("/resolve/")
            self.file(repository, *map(unquote, rest.split("/", 1)))
        else:  # what else huggingface_hub would like to know is no part of a download
            self.refuse(404, None, "Not found")

    do_HEAD = do_GET  # noqa: N815

    def handle(self) -> None:
        with suppress(ConnectionError):  # of clients that left
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

    def note(self, name: str) -> Fault | None:
        """Write the request down; return what shall go wrong with it, or None where that is its answer."""
        range_ = self.headers["Range"]
        self.hub.requests.append(Request(self.command, self.path, name, self.token, range_))
        fault = self.hub.faults.get(name)
        if fault is None or fault.method != self.command or fault.times == 0:
            return Fault()
        fault.times -= 1
        if fault.status:
            self.answer(fault.status, b"broken")
        elif fault.hangs:
            self.hub.closing.wait(60)
            self.close_connection = True
        else:
            return fault
        return None

    def model(self, name: str, revision: str = "main") -> None:
        if self.note(LIST) is None or (files := self.files(name, revision)) is None:
            return
        commit, contents = files
        siblings: list[dict[str, object]] = []
        for path, content in contents.items():
            lfs = {"sha256": _sha256(content), "size": len(content), "pointerSize": 130}
            siblings.append({"rfilename": path, "lfs": lfs if path.endswith(LARGE) else None})
        self.answer(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def file(self, repository: str, revision: str, name: str) -> None:
        fault = self.note(name)
        if fault is None or (files := self.files(repository, revision, content=True)) is None:
            return None
        commit, contents = files
        marks = {"X-Repo-Commit": commit}
        if name not in contents:
            return self.refuse(404, "EntryNotFound", "Entry not found", marks)
        content = contents[name]
        if not name.endswith(LARGE):
            marks["ETag"] = f'"{hashlib.sha1(content, usedforsecurity=False).hexdigest()}"'
            return self.content(content, fault, marks)
        sha256 = _sha256(content)
        marks |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        return self.answer(302, b"", marks | {"Location": f"{self.hub.storage}/lfs/{sha256}"})

    def lfs(self, sha256: str) -> None:
        name, content = self.hub.find(sha256)
        fault = self.note(name)
        if fault is not None:
            self.content(content, fault, {"ETag": f'"{sha256}"'})

    def content(self, content: bytes, fault: Fault, headers: dict[str, str]) -> None:
        """Send a file, from where Range says."""
        content = content if fault.content is None else fault.content
        if (begin := self.headers["Range"]) is not None:
            first = int(begin.removeprefix("bytes=").removesuffix("-"))
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return self.answer(206, content[first:], headers, fault)
        return self.answer(200, content, headers, fault)

    def files(self, name: str, revision: str, content: bool = False) -> tuple[str, dict[str, bytes]] | None:
        """Return commit and files of a revision; None where the request may not have them, which is then answered."""
        repository, allowed = self.hub.repositories.get(name), False
        if repository is not None:
            allowed = self.token in repository.readers
        if self.token is not None and self.token not in self.hub.tokens:
            self.refuse(401, None, "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and not allowed):
            self.refuse(401 if self.token is None else 404, "RepoNotFound", "Repository not found")
        elif repository.gated and content and not allowed:
            self.refuse(401 if self.token is None else 403, "GatedRepo", f"Access to model {name} is restricted.")
        elif (commit := repository.refs.get(revision, revision)) not in repository.commits:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return commit, repository.commits[commit]
        return None

    def refuse(self, status: int, code: str | None, message: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer an error, in whose text the token is: no message of ours may repeat it."""
        marks = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        body = json.dumps({"error": f"{message} (with the token {self.token})"}).encode()
        self.answer(status, body, marks | dict(headers or {}))

    def answer(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, fault: Fault | None = None
    ) -> None:
        """Send an answer, all of it or as much as `fault` leaves."""
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = fault.cut_after if fault else None
        self.wfile.write(body[:cut])
        if fault and (cut is not None or fault.closes):
            self.wfile.flush()
            self.close_connection = True
        if fault and fault.closes:
            self.hub.close()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
