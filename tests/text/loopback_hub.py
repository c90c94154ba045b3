"""A hub on the loopback device, as far as `datasets` and `huggingface_hub` ask: cards, and lists and bytes of files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
Repositories = Mapping[str, Mapping[str, bytes]]


@contextmanager
def loopback_hub(data_sets: Repositories, models: Repositories | None = None, gated: str = "") -> Iterator[str]:
    """Its address, for HF_ENDPOINT.

    Args:
        data_sets, models: files by their names, by the repository's name; the commit of all is `COMMIT`, and there are
            the revisions `main` and `v1`.
        gated: a model that may not be read.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(data_sets, models or {}, gated))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(data_sets: Repositories, models: Repositories, gated: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self._file(data_sets[found[1]].get(found[2]))
            elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/[^/]+/?(.*)", path):
                self._json(list(_tree(data_sets[found[1]], found[2])))
            elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/revision/.+)?", path):
                self._json({"id": found[1], "sha": COMMIT, "siblings": []})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+/(.+)", path):
                entries = list(_tree(models.get(found[1], {}), found[2]))
                self._json(entries) if entries else self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            elif found := re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)(?:/(?:revision|resolve)/([^/]+)/?(.*))?", path):
                self._of_model(found[1], found[2] or "main", found[3] or "")
            else:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def _of_model(self, name: str, revision: str, file: str) -> None:
            if name == gated:
                self._answer(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": f"{name} is gated"})
            elif name not in models:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", "v1", COMMIT):
                self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif file:
                self._file(models[name].get(file))
            else:
                self._json({"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in models[name]]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            (name,) = re.findall(r"/api/datasets/([^/]+/[^/]+)/paths-info/", unquote(self.path))
            self._json([each for each in _tree(data_sets[name], "") if each["path"] in asked["paths"]])

        def log_message(self, *args: object) -> None:
            """Nothing."""

        def _json(self, content: object) -> None:
            self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _file(self, content: bytes | None) -> None:
            if content is None:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                return
            about = {"X-Repo-Commit": COMMIT, "ETag": f'"{_hash(content)}"', "Accept-Ranges": "bytes"}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and self.command == "GET":
                first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
                about["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                self._answer(206, content[first : last + 1], about)
            else:
                self._answer(200, content, about)

        def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler


def _tree(files: Mapping[str, bytes], below: str) -> Iterator[dict[str, object]]:
    folders = {name.rpartition("/")[0] for name in files if "/" in name}
    for name in sorted({*files, *folders}):
        if name != below and name.startswith(f"{below}/" if below else ""):
            content = files.get(name)
            kind = "directory" if content is None else "file"
            yield {"type": kind, "path": name, "size": len(content or b""), "oid": _hash(content or name.encode())}


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
