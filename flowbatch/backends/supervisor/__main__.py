"""`python -I -S …/supervisor FOLDER [IDLE_SECONDS [sampled]]`: goes into the background, and exits once it listens.

`sampled`: memory is limited without cgroups.

0: it listens, or another supervisor of this folder does. 1: it cannot, and standard error says why.
"""

from __future__ import annotations

import os
import sys
import types


def _as_package() -> None:
    """Makes our modules importable under their own names without flowbatch's __init__, which is not for this interpreter."""
    here = os.path.dirname(os.path.abspath(__file__))
    for name, depth in (("flowbatch", 2), ("flowbatch.backends", 1)):
        path = here
        for _ in range(depth):
            path = os.path.dirname(path)
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module


if __name__ == "__main__":
    _as_package()
    from flowbatch.backends.supervisor.daemon import main

    sys.exit(main(sys.argv[1:]))
