"""The floors of the house: a room imports only lower floors, and within itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "flowbatch"

FLOORS: dict[str, int] = {
    "model": 0,
    "errors": 0,
    "core": 1,
    "spec": 1,
    "ports": 2,
    "engine": 3,
    "hooks": 3,
    "store": 3,
    "backends": 3,
    "clock": 3,
    "logs": 2,
    "tasklogs": 3,
    "settings": 3,
    "folder": 3,
    "http": 4,
    "notices": 4,
    "library": 4,
    "remote": 5,
    "app": 5,
    "serve": 6,
    "cli": 7,
    "__main__": 8,
    "__init__": 0,
}
PURE = {"model", "core"}
PURE_THIRD_PARTY = {"msgspec"}  # plain data, made and compared in C
IMPURE_MODULES = {
    "asyncio",
    "anyio",
    "aiosqlite",
    "aiodocker",
    "aiohttp",
    "structlog",
    "sqlite3",
    "time",
    "random",
    "uuid",
    "os",
    "pathlib",
    "logging",
    "socket",
    "subprocess",
}
SPEC_THIRD_PARTY = PURE_THIRD_PARTY | {"pydantic", "yaml", "pydantic_core", "cronsim"}
SUPERVISOR = ROOT / "backends" / "supervisor"  # runs alone, before anything is installed into its interpreter


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room_of(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {
                f"{node.module}.{alias.name}" for alias in node.names if node.module == "flowbatch"
            }
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    relative = path.relative_to(ROOT)
    room = relative.parts[0].removesuffix(".py")
    floor = FLOORS[room]
    for name in imports(path):
        top = name.split(".")[0]
        if top == "flowbatch":
            other = room_of(name)
            if other in {"__init__", "__version__"}:
                continue
            assert other == room or FLOORS[other] < floor, f"{relative} imports {name}"
        elif room in PURE:
            assert top in sys.stdlib_module_names or top in PURE_THIRD_PARTY, f"{relative} imports {name}"
            assert top not in IMPURE_MODULES, f"{relative} imports {name}"
        elif room == "spec":
            assert top in sys.stdlib_module_names or top in SPEC_THIRD_PARTY, f"{relative} imports {name}"
            assert top not in IMPURE_MODULES, f"{relative} imports {name}"
        if path.is_relative_to(SUPERVISOR):
            # Its own modules, which it makes importable without flowbatch's __init__.
            own = name.startswith("flowbatch.backends.supervisor")
            assert own or top in sys.stdlib_module_names, f"{relative} imports {name}"


def test_modules_are_one_noun() -> None:
    too_long = {str(p.relative_to(ROOT)): n for p in modules() if (n := p.read_text().count("\n")) > 420}
    assert not too_long
