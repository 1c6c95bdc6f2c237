"""A verb that an engine leaves without an answer."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from flowbatch.cli import context
from flowbatch.cli.context import Place
from flowbatch.folder import short_socket_path


def test_it_is_said_for_whom_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine has been stopped, say: it takes the connection, for the kernel does that, and answers later."""
    monkeypatch.setattr(context, "SILENT_SECONDS", 0)
    said = threading.Event()
    say = Place._say_that_it_waits

    def saying(place: Place) -> None:
        say(place)
        said.set()

    monkeypatch.setattr(Place, "_say_that_it_waits", saying)
    place = Place(str(tmp_path), None)
    with socket.socket(socket.AF_UNIX) as listener:
        with short_socket_path(place.folder.socket) as path:
            listener.bind(path)
        listener.listen()

        def answer() -> None:
            engine, _ = listener.accept()
            with engine:
                assert engine.recv(4096)
                said.wait()
                engine.sendall(b'{"value": 7}\n')

        engine = threading.Thread(target=answer)
        engine.start()
        assert place.ask("why") == 7
        engine.join()
    assert capsys.readouterr().err == "Waiting for the engine to answer: it is busy, or has been stopped (Ctrl-Z).\n"
