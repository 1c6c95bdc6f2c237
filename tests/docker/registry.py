"""A registry of images on loopback, as small as the Engine lets it be, that fails as it is told."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.docker.engine import busybox_tree


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """`failures`: HTTP statuses to answer the next requests for a manifest with. `gate` unset: layers are held back."""

    def __init__(self) -> None:
        tree = busybox_tree()
        layer = gzip.compress(tree, 1)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [digest(tree)]},
            }
        ).encode()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        self.manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": kind,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": digest(config),
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": len(layer),
                        "digest": digest(layer),
                    }
                ],
            }
        ).encode()
        self.kind = kind
        self.blobs = {digest(config): config, digest(layer): layer}
        self.layer = digest(layer)
        self.failures: list[int] = []
        self.auth: str | None = None  # user:password
        self.gate = threading.Event()
        self.gate.set()
        self.manifests = 0  # asked for
        self.port = 0

    def image(self, name: str) -> str:
        return f"localhost:{self.port}/{name}:1"

    def answer(self, handler: BaseHTTPRequestHandler) -> tuple[int, bytes, dict[str, str]]:
        if self.auth is not None:
            wanted = "Basic " + base64.b64encode(self.auth.encode()).decode()
            if handler.headers.get("Authorization") != wanted:
                text = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
                return 401, text, {"WWW-Authenticate": 'Basic realm="test"', "Content-Type": "application/json"}
        parts = handler.path.split("/")
        if "manifests" in parts:
            if handler.command == "GET" or self.failures:
                self.manifests += 1
            if self.failures:
                status = self.failures.pop(0)
                return status, json.dumps({"errors": [CODES[status]]}).encode(), {"Content-Type": "application/json"}
            found = digest(self.manifest)
            return 200, self.manifest, {"Content-Type": self.kind, "Docker-Content-Digest": found}
        if "blobs" in parts:
            if parts[-1] == self.layer:
                self.gate.wait(60)
            return 200, self.blobs[parts[-1]], {"Content-Type": "application/octet-stream"}
        return 200, b"{}", {"Content-Type": "application/json"}


CODES = {
    404: {"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"},
    429: {"code": "TOOMANYREQUESTS", "message": "You have reached your pull rate limit"},
    503: {"code": "UNAVAILABLE", "message": "the service is not available"},
}


@contextmanager
def a_registry() -> Iterator[Registry]:
    registry = Registry()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, data, headers = registry.answer(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
