"""A hub on the loopback device, as far as `datasets` and `huggingface_hub` ask: cards, lists and bytes of files, and
commits; with the weather that a test wants."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40
TOKEN = "hf_of_somebody"
"""The one token that may write, and read what is private."""
Repositories = Mapping[str, Mapping[str, bytes]]


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        asked: pattern of the method and the path, as `GET /org/name/resolve/main/x`.
        status: of the answer; 0 for a connection that is closed in the middle of the content; -1 for no answer at all
            until `released`.
        headers: of the answer.
        times: to how many requests; None for all.
        met: how many it has happened to.
        met_first, released: set when the first has come, and to let those go that wait.
    """

    asked: str
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None
    met: int = 0
    met_first: Event = field(default_factory=Event)
    released: Event = field(default_factory=Event)


@dataclass(frozen=True)
class Commit:
    """What is in a repository at a commit, by the names of its files."""

    oid: str
    files: Mapping[str, bytes]
    title: str = ""


@dataclass
class Stored:
    """A repository that can be pushed to: its commits, the first one empty, and tags by their names."""

    private: bool = False
    commits: list[Commit] = field(default_factory=lambda: [Commit("0" * 40, {".gitattributes": b""})])
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        wanted = self.commits[-1].oid if revision == "main" else self.tags.get(revision, revision)
        return next((each for each in self.commits if each.oid == wanted), None)


@dataclass
class Store:
    """What can be pushed to: repositories by their names, uploaded objects by their sha256, and all that was asked."""

    repositories: dict[str, Stored] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def loopback_hub(
    data_sets: Repositories,
    models: Repositories | None = None,
    gated: str = "",
    store: Store | None = None,
    faults: Sequence[Fault] = (),
) -> Iterator[str]:
    """Its address, for HF_ENDPOINT.

    Args:
        data_sets, models: files by their names, by the repository's name; the commit of all is `COMMIT`, and there are
            the revisions `main` and `v1`.
        gated: a model, or a data set, that may not be read.
        store: repositories that can be pushed to, with `TOKEN`.
        faults: the first that fits a request happens to it.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(data_sets, models or {}, gated, store or Store(), faults))
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        for each in faults:
            each.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(
    data_sets: Repositories, models: Repositories, gated: str, store: Store, faults: Sequence[Fault]
) -> type[BaseHTTPRequestHandler]:
    one_at_a_time = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or every answer waits for what the client says of its first packet
        wbufsize = -1
        cut = False

        def do_GET(self) -> None:
            if self._happens():
                return
            path = unquote(urlsplit(self.path).path)
            if gated and re.match(rf"(/api)?/datasets/{gated}(/|$)", path):
                self._answer(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": f"{gated} is gated"})
            elif found := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self._file(data_sets[found[1]].get(found[2]))
            elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/[^/]+/?(.*)", path):
                self._json(list(_tree(data_sets[found[1]], found[2])))
            elif found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(/revision/.+)?", path):
                self._of_data_set(found[1])
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/]+/(.+)", path):
                entries = list(_tree(models.get(found[1], {}), found[2]))
                self._json(entries) if entries else self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            elif found := re.fullmatch(r"(?:/api/models)?/([^/]+/[^/]+)(?:/(?:revision|resolve)/([^/]+)/?(.*))?", path):
                self._of_model(found[1], found[2] or "main", found[3] or "")
            else:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def _happens(self) -> bool:
            """Whether the answer was one of the faults."""
            asked = f"{self.command} {unquote(urlsplit(self.path).path)}"
            with one_at_a_time:
                store.asked.append(asked)
                fault = next((each for each in faults if re.search(each.asked, asked) and each.times != each.met), None)
                if fault is None:
                    return False
                fault.met += 1
            fault.met_first.set()
            if fault.status == 0:
                self.cut = True
                return False
            self.close_connection = True
            if fault.status == -1:
                fault.released.wait()
                return True
            if "Content-Length" in self.headers:
                self._body()
            self._answer(fault.status, b"", {**fault.headers, "Connection": "close"})
            return True

        def _of_data_set(self, name: str) -> None:
            if name not in data_sets:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            else:
                self._json({"id": name, "sha": COMMIT, "siblings": []})

        def _of_model(self, name: str, revision: str, file: str) -> None:
            if name == gated:
                self._answer(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": f"{name} is gated"})
            elif name in store.repositories:
                self._of_stored(name, revision, file)
            elif name not in models:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", "v1", COMMIT):
                self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif file:
                self._file(models[name].get(file))
            else:
                self._json({"id": name, "sha": COMMIT, "siblings": [{"rfilename": each} for each in models[name]]})

        def _of_stored(self, name: str, revision: str, file: str) -> None:
            repository = store.repositories[name]
            if repository.private and not self._knows_the_token():
                self._answer(401, b"", {"X-Error-Code": "RepoNotFound"})
            elif (commit := repository.at(revision)) is None:
                self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif file:
                self._file(commit.files.get(file), commit.oid)
            else:
                about = {"id": name, "sha": commit.oid, "private": repository.private}
                self._json({**about, "siblings": [{"rfilename": each} for each in commit.files]})

        def do_POST(self) -> None:
            if self._happens():
                return
            path, body = unquote(urlsplit(self.path).path), self._body()
            if found := re.search(r"/api/datasets/([^/]+/[^/]+)/paths-info/", path):
                files = data_sets[found[1]]
                self._json([each for each in _tree(files, "") if each["path"] in json.loads(body)["paths"]])
            elif path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            elif not self._knows_the_token():
                self._answer(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
            elif path == "/api/repos/create":
                self._create(json.loads(body))
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                self._preupload(store.repositories[found[1]], json.loads(body)["files"])
            elif path.endswith(".git/info/lfs/objects/batch"):
                self._json({"transfer": "basic", "objects": [*map(self._upload_of, json.loads(body)["objects"])]})
            elif path == "/verify":
                known = json.loads(body)["oid"] in store.objects
                self._json({}) if known else self._answer(404, b"", {})
            elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                self._commit(found[1], [json.loads(line) for line in body.splitlines()])
            else:
                self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})

        def do_PUT(self) -> None:
            if self._happens():
                return
            oid, content = self.path.rpartition("/")[2], self._body()
            if hashlib.sha256(content).hexdigest() != oid:
                self._answer(400, b"", {})
                return
            with one_at_a_time:
                store.objects[oid] = content
            self._answer(200, b"", {"ETag": f'"{oid}"'})

        def _create(self, asked: dict[str, Any]) -> None:
            name, there = f"{asked['organization']}/{asked['name']}", f"http://{self.headers['Host']}"
            about = json.dumps({"url": f"{there}/{name}", "name": name}).encode()
            if name in store.repositories:
                self._answer(409, about, {})
                return
            private = asked.get("visibility") == "private" or asked.get("private", False)
            store.repositories[name] = Stored(private=private)
            self._answer(200, about, {"Content-Type": "application/json"})

        def _preupload(self, repository: Stored, files: list[dict[str, Any]]) -> None:
            there, found = repository.commits[-1].files, []
            for each in files:
                mode = "lfs" if each["path"].endswith(".safetensors") or each["size"] > 10_000_000 else "regular"
                known = {} if (content := there.get(each["path"])) is None else {"oid": _oid(content, mode)}
                found.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False, **known})
            self._json({"files": found})

        def _upload_of(self, asked: dict[str, Any]) -> dict[str, Any]:
            there = f"http://{self.headers['Host']}"
            about = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] in store.objects:
                return about
            return {
                **about,
                "actions": {
                    "upload": {"href": f"{there}/upload/{asked['oid']}"},
                    "verify": {"href": f"{there}/verify"},
                },
            }

        def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            with one_at_a_time:
                repository = store.repositories[name]
                before, (header, *operations) = repository.commits[-1], lines
                if header["value"].get("parentCommit", before.oid) != before.oid:
                    self._answer(412, b"", {"X-Error-Message": "A commit has happened since."})
                    return
                files = dict(before.files)
                for each in operations:
                    value = each["value"]
                    match each["key"]:
                        case "file":
                            files[value["path"]] = base64.b64decode(value["content"])
                        case "lfsFile":
                            files[value["path"]] = store.objects[value["oid"]]
                        case "deletedFile":
                            del files[value["path"]]
                oid = hashlib.sha1(repr((before.oid, sorted(files.items()))).encode()).hexdigest()
                repository.commits.append(Commit(oid, files, header["value"]["summary"]))
            self._json({"commitUrl": f"http://{self.headers['Host']}/{name}/commit/{oid}", "commitOid": oid})

        def _knows_the_token(self) -> bool:
            return self.headers.get("Authorization") == f"Bearer {TOKEN}"

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def log_message(self, *args: object) -> None:
            """Nothing."""

        def _json(self, content: object) -> None:
            self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _file(self, content: bytes | None, commit: str = COMMIT) -> None:
            if content is None:
                self._answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
                return
            about = {"X-Repo-Commit": commit, "ETag": f'"{_hash(content)}"', "Accept-Ranges": "bytes"}
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
                self.wfile.write(content[: len(content) // 2] if self.cut else content)
            if self.cut:
                self.wfile.flush()
                time.sleep(0.1)  # what was sent has been read before the connection ends
                self.close_connection, self.cut = True, False

    return Handler


def _tree(files: Mapping[str, bytes], below: str) -> Iterator[dict[str, object]]:
    folders = {name.rpartition("/")[0] for name in files if "/" in name}
    for name in sorted({*files, *folders}):
        if name != below and name.startswith(f"{below}/" if below else ""):
            content = files.get(name)
            kind = "directory" if content is None else "file"
            yield {"type": kind, "path": name, "size": len(content or b""), "oid": _hash(content or name.encode())}


def _oid(content: bytes, mode: str) -> str:
    """What the hub knows a file by: a large one by the sha256 of its content, any other as git does."""
    if mode == "lfs":
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _hash(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
