"""The start of a supervisor, in two steps: what it takes, some 50 ms of its own, can pass while we do something else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from flowbatch.backends.supervisor import wire
from flowbatch.errors import BackendUnavailable

SUPERVISOR: Final = Path(wire.__file__).parent
START_S: Final = 30.0  # a machine on its knees


class Starting:
    """A supervisor on its way into the background. Its environment is empty: what tasks get comes with each connection, and no
    secret of ours stays in a long-lived process. Where another one serves the folder already, it goes again."""

    def __init__(self, folder: Path) -> None:
        """Raises BackendUnavailable."""
        self._folder = folder
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SUPERVISOR), str(folder)],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise BackendUnavailable(f"{folder}: the supervisor cannot be started: {error}") from None

    def finish(self) -> None:
        """Returns once it listens. Raises BackendUnavailable with what it said. May be called again."""
        try:
            _, said = self._process.communicate(timeout=START_S)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            raise BackendUnavailable(f"{self._folder}: the supervisor cannot be started: {error}") from None
        code = self._process.returncode
        if code != 0:
            lines = said.decode("utf-8", "replace").strip().splitlines()
            raise BackendUnavailable(
                f"{self._folder}: the supervisor cannot be started: {lines[-1] if lines else f'exit code {code}'}"
            )


def start_early(folder: Path) -> Starting | None:
    """For a state folder that is new: in any other the store is looked at first, for a newer version's is left untouched."""
    return None if folder.parent.joinpath("flowbatch.db").exists() else Starting(folder)
