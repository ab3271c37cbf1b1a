"""A Hugging Face Hub on this machine. It answers only the requests that huggingface_hub makes for small files."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LICENCES = ("apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "unknown", "other")
"""Some of the licences that a card's front matter may name. Like the real Hub, others are refused."""

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """Repositories in memory; use it as a context manager.

    Attributes:
        files: repository -> file -> content.
        gated: repositories that need a login.
        requests: method and path of each request that was answered.
    """

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    """Tokens of all requests to write."""
    readers: set[str] = field(default_factory=set)
    """Tokens of all requests to read."""
    busy: int = 0
    """How many of the next requests to read are answered "503 Service Unavailable"."""
    breaks_after: dict[str, int] = field(default_factory=dict)
    """File -> bytes after which the next connection that sends it breaks."""
    ranges: list[str] = field(default_factory=list)
    """Range header of each request that had one."""

    def __enter__(self) -> "HubServer":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_GET(self) -> None:
                hub.answer(self)

            def do_POST(self) -> None:
                hub.answer(self)

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *details: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send one response."""
        path = unquote(urlsplit(request.path).path)
        self.requests.append(f"{request.command} {path}")
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        if request.command == "POST":
            self.tokens.add(request.headers.get("Authorization", ""))
            self._write(request, path, body)
        elif "/resolve/" in path:
            self.readers.add(request.headers.get("Authorization", ""))
            self._read(request, *path.strip("/").split("/resolve/"))
        else:
            send(request, 404, {}, b"{}")

    def _read(self, request: BaseHTTPRequestHandler, repo: str, rest: str) -> None:
        if self.busy:
            self.busy -= 1
            send(request, 503, {}, b"")
            return
        revision, _, name = rest.partition("/")
        error = None
        if repo in self.gated:
            error = (403, "GatedRepo")
        elif repo not in self.files:
            error = (404, "RepoNotFound")
        elif revision not in ("main", COMMIT):
            error = (404, "RevisionNotFound")
        elif name not in self.files[repo]:
            error = (404, "EntryNotFound")
        if error:
            send(request, error[0], {"X-Error-Code": error[1], "X-Repo-Commit": COMMIT}, b"")
            return
        content = self.files[repo][name]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        facts = {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        code, wanted = 200, request.headers.get("Range")
        if wanted:
            self.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            code, facts["Content-Range"] = 206, f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        breaks_after = self.breaks_after.pop(name, None) if request.command == "GET" else None
        send(request, code, facts, content, breaks_after)

    def _write(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> None:
        if request.headers.get("Authorization") != "Bearer right":
            send(request, 401, {}, json.dumps({"error": "Invalid username or password."}).encode())
            return
        repo = "/".join(path.split("/")[3:5])
        if path == "/api/repos/create":
            wish = json.loads(body)
            repo = f"{wish.get('organization') or 'ann'}/{wish['name']}"
            known = repo in self.files
            self.files.setdefault(repo, {})
            reply = {"url": f"{self.url}/{repo}", "name": repo}
            send(request, 409 if known else 200, {}, json.dumps(reply).encode())
        elif path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            reply = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
            send(request, 200, {}, json.dumps(reply).encode())
        elif path.endswith("/commit/main"):
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.files[repo][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            reply = {"commitUrl": f"{self.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
            send(request, 200, {}, json.dumps(reply).encode())
        else:  # validate-yaml
            licence = re.search(r"^license: (.*)$", json.loads(body)["content"], re.MULTILINE)
            errors = []
            if licence and licence[1] not in LICENCES:
                errors.append({"message": f'"license" must be one of [{", ".join(LICENCES)}]'})
            reply = {"errors": errors, "warnings": []}
            send(request, 400 if errors else 200, {}, json.dumps(reply).encode())


def send(
    request: BaseHTTPRequestHandler,
    code: int,
    headers: dict[str, str],
    content: bytes,
    breaks_after: int | None = None,
) -> None:
    request.send_response(code)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content[:breaks_after])
