"""A model and data hub on this machine: folders served in the hub's own protocol, for the code that fetches.

`<root>/models/<owner>/<name>/` and `<root>/datasets/<owner>/<name>/` are repositories with a branch `main`.
A repository's commit follows from its files. Weights and parquet files are large files (hashed by SHA-256),
all others are git's, as on the real hub.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

LARGE = {".safetensors", ".parquet"}
BRANCH = "main"


class Repository:
    """One folder as a repository."""

    def __init__(self, folder: Path) -> None:
        self.files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
        self.commit = hashlib.sha1(
            json.dumps([(name, self.digest(name)) for name in self.files]).encode(), usedforsecurity=False
        ).hexdigest()

    def digest(self, name: str) -> str:
        """SHA-256 of a large file, what git calls a small one."""
        data = self.files[name].read_bytes()
        if self.files[name].suffix in LARGE:
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

    def entry(self, name: str) -> dict[str, Any]:
        """A file as the hub lists it."""
        size, digest = self.files[name].stat().st_size, self.digest(name)
        large = {"oid": digest, "sha256": digest, "size": size, "pointerSize": 134}
        return {
            "type": "file",
            "path": name,
            "rfilename": name,
            "size": size,
            "oid": digest,
            "blobId": digest,
            **({"lfs": large} if self.files[name].suffix in LARGE else {}),
        }

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        """Files (and folders) below a folder."""
        start = f"{below}/" if below else ""
        entries: dict[str, dict[str, Any]] = {}
        for name in self.files:
            if not name.startswith(start):
                continue
            parts = name.removeprefix(start).split("/")
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                path = start + "/".join(parts[:depth])
                entries[path] = {"type": "directory", "path": path, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                entries[name] = self.entry(name)
        return list(entries.values())


class Hub(BaseHTTPRequestHandler):
    """The part of the protocol that huggingface_hub and datasets use to read."""

    root: Path
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Route a request."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        parts = unquote(urlparse(self.path).path).strip("/").split("/")
        api = parts[0] == "api"
        kind = "datasets" if "datasets" in parts[:2] else "models"
        rest = parts[1:] if api else parts
        if rest and rest[0] in ("datasets", "models"):
            rest = rest[1:]
        folder = self.root / kind / "/".join(rest[:2])
        if len(rest) < 2 or not folder.is_dir():
            return self.refuse("RepoNotFound")
        repository = Repository(folder)
        verb, revision, path = "".join(rest[2:3]), "".join(rest[3:4]) or BRANCH, "/".join(rest[4:])
        if revision not in (BRANCH, repository.commit):
            return self.refuse("RevisionNotFound")
        if verb == "resolve":
            return self.send_file(repository, path)
        if verb == "paths-info":
            paths = json.loads(body)["paths"] if body.startswith(b"{") else []
            return self.send_json([repository.entry(name) for name in paths if name in repository.files])
        if verb == "tree":
            return self.send_json(repository.tree(path, "recursive=true" in self.path.lower()))
        siblings = [repository.entry(name) for name in repository.files]
        name = "/".join(rest[:2])
        return self.send_json({"id": name, "sha": repository.commit, "siblings": siblings, "tags": []})

    def send_file(self, repository: Repository, name: str) -> None:
        """A file's bytes with the headers that name its commit and hash."""
        if name not in repository.files:
            return self.refuse("EntryNotFound", {"X-Repo-Commit": repository.commit})
        data = repository.files[name].read_bytes()
        self.send(data, {"ETag": f'"{repository.digest(name)}"', "X-Repo-Commit": repository.commit})
        return None

    def send_json(self, value: Any) -> None:
        self.send(json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})}, 404)

    def send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def serve_hub(root: Path) -> Iterator[str]:
    """Serve `root` while this lasts; yields the address for HF_ENDPOINT."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("LocalHub", (Hub,), {"root": root}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
