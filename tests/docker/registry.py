"""A registry of images on loopback: Debian's docker-registry, and before it a proxy of ours that fails as it is told.

The real one has the images and asks for passwords. What it does not do, the proxy does: it answers with a status of its own (a
rate limit, an outage), and holds layers back.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.client
import io
import json
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

from tests.docker.engine import add_text, busybox_tree, ensure_program

READY_S: Final = 30.0
USER: Final = "somebody"
PASSWORD: Final = "s3cret:with-colon"
# Of the password above: no tool is needed that makes one.
HTPASSWD: Final = f"{USER}:$2b$04$Vd5GLMtzYwUjjtQPpRTSpuyvLow6fRa5nbJemP12Y3u.GT08YYlWm"
MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG: Final = "application/vnd.docker.container.image.v1+json"
LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
BLOB: Final = "application/octet-stream"
HOP: Final = ("connection", "date", "server", "transfer-encoding", "content-length")
FAILURES: Final = {
    429: ("TOOMANYREQUESTS", "You have reached your pull rate limit"),
    503: ("UNAVAILABLE", "the service is not available"),
}


class Registry:
    """`failures`: HTTP statuses to answer the next requests for a manifest with. `gate` unset: layers are held back."""

    def __init__(self, behind: int) -> None:
        self.behind = behind  # the port of the real one
        self.failures: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.held: set[str] = set()  # layers that the gate holds back
        self.requests: list[tuple[str, str]] = []  # for manifests: method, image
        self.digests: dict[str, list[str]] = {}  # of each image, what its name meant: oldest first
        self.port = 0

    def asked(self, image: str) -> list[str]:
        """How its manifest was asked for: by which methods."""
        return [method for method, name in self.requests if name == image]

    def absent(self) -> str:
        return f"localhost:{self.port}/absent-{uuid4().hex[:8]}:1"

    def image(self, retag: str | None = None) -> str:
        """Puts a new one there: busybox, and a layer that no Engine has yet. `retag`: under the name of this one."""
        mark = f"test-{uuid4().hex[:8]}"
        name = mark if retag is None else retag.partition("/")[2].removesuffix(":1")
        trees = [busybox_tree(), name_tree(mark)]
        layers = [gzip.compress(tree, 1) for tree in trees]
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(tree) for tree in trees]},
            }
        ).encode()
        for blob in (config, *layers):
            self._upload(name, blob)
        self.held.add(digest(layers[1]))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(config, CONFIG),
            "layers": [described(layer, LAYER) for layer in layers],
        }
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{name}/manifests/1", body, MANIFEST)
        image = f"localhost:{self.port}/{name}:1"
        self.digests.setdefault(image, []).append(f"localhost:{self.port}/{name}@{digest(body)}")
        return image

    def _upload(self, name: str, blob: bytes) -> None:
        there = self._ask("POST", f"/v2/{name}/blobs/uploads/", b"", BLOB)
        target = urlsplit(there)
        self._ask("PUT", f"{target.path}?{target.query}&digest={digest(blob)}", blob, BLOB)

    def _ask(self, method: str, target: str, body: bytes, kind: str) -> str:
        """Of the real one, directly. Returns the Location of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=READY_S)
        try:
            login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            connection.request(method, target, body, {"Content-Type": kind, "Authorization": f"Basic {login}"})
            response = connection.getresponse()
            text = response.read()
            assert response.status < 300, (method, target, response.status, text)
            return response.headers.get("Location", "")
        finally:
            connection.close()


class Front(BaseHTTPRequestHandler):
    """Hands on what it is asked to the real registry, and its answer back."""

    protocol_version = "HTTP/1.1"
    registry: Registry

    def do_GET(self) -> None:
        registry = self.registry
        if "/manifests/" in self.path:
            registry.requests.append((self.command, f"localhost:{registry.port}/{self.path.split('/')[2]}:1"))
            if registry.failures:
                self._fail(registry.failures.pop(0))
                return
        if self.path.rpartition("/")[2] in registry.held:
            registry.gate.wait(60)
        connection = http.client.HTTPConnection("127.0.0.1", registry.behind, timeout=READY_S)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # an Engine sends many Accept
                if name.lower() not in HOP:
                    connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            data = response.read()
            length = response.headers.get("Content-Length", str(len(data)))
            kept = [pair for pair in response.getheaders() if pair[0].lower() not in HOP]
            self._answer(response.status, data, [*kept, ("Content-Length", length)])
        finally:
            connection.close()

    do_HEAD = do_GET

    def _fail(self, status: int) -> None:
        code, message = FAILURES[status]
        data = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        wait = [("Retry-After", "1")] if status == 429 else []
        kind = ("Content-Type", "application/json")
        self._answer(status, data, [*wait, kind, ("Content-Length", str(len(data)))])

    def _answer(self, status: int, data: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def described(blob: bytes, kind: str) -> dict[str, str | int]:
    return {"mediaType": kind, "size": len(blob), "digest": digest(blob)}


def name_tree(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        add_text(tar, "etc/image-name", name)
    return out.getvalue()


@contextmanager
def a_registry(*, auth: bool = False) -> Iterator[Registry]:
    with TemporaryDirectory(prefix="fbr-") as folder, a_real_one(Path(folder), a_port(), auth=auth) as behind:
        registry = Registry(behind)
        handler = type("Handler", (Front,), {"registry": registry})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        registry.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield registry
        finally:
            registry.gate.set()
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def an_image_inside(enter: list[str]) -> Iterator[str]:
    """A registry in the network that `enter` leads to, with one image; no proxy of ours reaches there."""
    with TemporaryDirectory(prefix="fbr-") as folder:
        with a_real_one(Path(folder), a_port()) as port:
            registry = Registry(port)
            registry.port = port
            image = registry.image()
        with a_real_one(Path(folder), port, enter=enter):
            yield image


@contextmanager
def a_real_one(folder: Path, port: int, *, auth: bool = False, enter: Sequence[str] = ()) -> Iterator[int]:
    """docker-registry with its data in the folder; its port. One in another network is taken to be up once its own log says so."""
    ensure_program("docker-registry")
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if auth:
        (folder / "htpasswd").write_text(HTPASSWD + "\n")
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    with (folder / "log").open("wb") as log:
        command = [*enter, "docker-registry", "serve", str(folder / "config.yml")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_S
        while b"listening on" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "docker-registry does not come up"
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def a_port() -> int:
    """One that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
