"""A workflow file on disk, to a plan: the reading that `spec`, which is pure, leaves to us."""

from __future__ import annotations

import glob
import os
import select
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from msgspec.structs import replace

from flowbatch.cli.context import Place
from flowbatch.engine.secrets import absent
from flowbatch.errors import InputError, StoreTooOld, WorkflowInvalid
from flowbatch.model.resources import Resources

if TYPE_CHECKING:
    from flowbatch.model.definition import DefinitionRow
    from flowbatch.model.jobspec import RunPlan
    from flowbatch.model.tokens import Token
    from flowbatch.spec.arrays import ReadSource
    from flowbatch.spec.compile import Plan, SourceRequest
    from flowbatch.spec.policy import Guard
    from flowbatch.spec.serving import House

BOUNDLESS: Final = Resources(10**9, 2**31, 1024)
PIPE_SECONDS: Final = 10.0
FILE_BYTES: Final = 1024 * 1024 + 1  # one more than a workflow may have, so that the loader sees that it is too long


def load_plan(
    place: Place,
    file: str,
    params: Sequence[str],
    only: Sequence[str] = (),
    *,
    run_id: str | None = None,
    allow: Sequence[str] | None = (),
    register: bool = False,
    anywhere: bool = False,
) -> Plan:
    """Raises WorkflowInvalid with everything that is wrong in the file, InputError where it cannot be read.

    `allow`: what containers may ask for beside what the settings say; None holds them against nothing. `register`: the plan
    brings the file's definitions. `anywhere`: it is not for this machine, whose size judges nothing then.
    """
    text = read_workflow(file, params)
    folder = str(Path(file).absolute().parent)
    given = parameters(params)
    return plan_text(
        place, text, file, folder, given, only, run_id=run_id, allow=allow, register=register, anywhere=anywhere
    )


def read_workflow(file: str, params: Sequence[str]) -> bytes:
    """Raises InputError, also where a parameter is no text."""
    path = Path(file)
    for word in (str(path.absolute()), *params):
        if not is_text(word):
            raise InputError(f"{os.fsencode(word)!r}: not UTF-8; names and parameters must be")
    if path.name == "flowbatch.yaml":
        raise InputError(f"{file}: this name is kept for settings; a workflow needs another one")
    try:
        with path.open("rb") as stream:
            return stream.read(FILE_BYTES)
    except OSError as error:
        raise InputError(f"{file}: the workflow cannot be read: {error.strerror}{near(path)}") from error


def plan_text(
    place: Place,
    text: bytes,
    file: str,
    folder: str,
    params: Mapping[str, str],
    only: Sequence[str] = (),
    *,
    run_id: str | None = None,
    allow: Sequence[str] | None = (),
    register: bool = False,
    anywhere: bool = False,
    served_for: str | None = None,
) -> Plan:
    """The plan of a file that has been read. `file`: what messages call it; `folder`: absolute, where it lies. `served_for`: the
    principal of a server that its run is of; what it may is less then (security.md §5-7). Raises WorkflowInvalid."""
    with no_plugins():
        from flowbatch.spec.compile import parse, plan
    environments, queues = place.places
    if anywhere:
        environments = tuple(replace(each, capacity=BOUNDLESS) for each in environments)
    house: House | None = None
    read: ReadSource = read_source
    if served_for is not None:
        from flowbatch.library.sources import beneath
        from flowbatch.spec.serving import House

        settings = place.settings
        house = House(settings.secrets, settings.allow_environments)
        read = beneath((folder, *settings.allow_paths))
    document = parse(text, file)
    with no_plugins():  # models are made as the file needs them
        made = plan(
            document,
            params=params,
            run_id=run_id or str(uuid4()),
            new_id=lambda: str(uuid4()),
            folder=folder,
            home=str(Path.home()),
            read_source=read,
            available=environments,
            host=None if anywhere else place.settings.host,
            queues=queues,
            root=os.getuid() == 0,
            guard=None if allow is None else guard(place, folder, allow, served_for),
            only=tuple(only),
            absent=None if allow is None else absent,
            tokens=lambda: shared_tokens(place),
            registry=lambda name, revision: stored(place, name, revision),
            register=register,
            house=house,
        )
    if served_for is None and not anywhere and place.server is None:
        wrong = [
            document.positions.problem(("jobs", key, "needs"), message) for key, message in strangers(place, made.run)
        ]
        if wrong:
            raise WorkflowInvalid(wrong)
    absent_sources = {
        mount.source: job.spec.key
        for job in reversed(made.run.jobs)
        for program in job.spec.programs
        if program.container is not None
        for mount in program.container.mounts
        if not mount.volume and mount.readonly and not os.path.exists(mount.source)  # what is written to is made
    }
    made.warnings.extend(
        document.positions.problem(
            ("jobs", job, "volumes"), f"{source}, to be read, is not there; no container starts until it is"
        )
        for source, job in absent_sources.items()
    )
    return made


def shared_tokens(place: Place) -> tuple[Token, ...]:
    """As an engine would find them: the settings' first, then what was created by hand, with the totals of now."""
    from flowbatch.model.tokens import Token

    found = {token.name: token for token in place.settings.tokens}
    if place.folder.exists():
        with place.reader() as reader:
            for row in reader.tokens():
                said = found.get(row.name)
                if row.run is None and (said is None or row.declared == said.total):
                    found[row.name] = Token(row.name, row.total, row.kind)
    return tuple(found.values())


def stored(place: Place, name: str, revision: int | None) -> DefinitionRow | None:
    """A definition of the registry; without a revision the latest ACTIVE one."""
    if not place.folder.exists():
        return None
    with place.reader() as reader:
        if revision is not None:
            return reader.revision(name, revision)
        return reader.latest_revision(name)


def near(path: Path) -> str:
    """A workflow beside it whose name is nearly that."""
    from difflib import get_close_matches

    try:
        names = [
            name for name in os.listdir(path.parent) if name.endswith((".yaml", ".yml")) and name != "flowbatch.yaml"
        ]
    except OSError:
        return ""
    stems = {name.rpartition(".")[0]: name for name in names}
    close = [] if path.name in names else get_close_matches(path.stem, stems, n=1)
    return f" (did you mean {str(path.parent / stems[close[0]])!r}?)" if close else ""


def guard(place: Place, folder: str, allow: Sequence[str], served_for: str | None = None) -> Guard:
    """What the settings and the flags allow, and the workflow's folder; less what is flowbatch's and Docker's own. Processes of
    whoever types `run` are their own, and always allowed."""
    from functools import cache

    from flowbatch.settings import protecting
    from flowbatch.spec.policy import Guard, Policy, Root, parse_allow

    try:
        more = parse_allow(allow)
    except ValueError as error:
        raise InputError(f"--allow: {error}") from None
    policy = protecting(place.settings, place.folder.path).plus(more).plus(Policy(mounts=(Root(folder),)))
    if served_for is None:
        policy = replace(policy, processes=True)
    return Guard(policy, cache(os.path.realpath), served_for)


@contextmanager
def no_plugins() -> Iterator[None]:
    """pydantic looks for plugins among all installed packages when the first model is made; ours need none."""
    name = "PYDANTIC_DISABLE_PLUGINS"
    before = os.environ.get(name)
    os.environ[name] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]  # tasks inherit our environment
        else:
            os.environ[name] = before


def is_text(word: str) -> bool:
    """False where the system gave bytes that are no UTF-8: Python carries them as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)


def parameters(words: Sequence[str], flag: str = "-p") -> dict[str, str]:
    """`-p name=value`; the last one of a name wins."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"{flag} {word}: {'a parameter' if flag == '-p' else 'it'} is given as name=value")
        found[name] = value
    return found


def strangers(place: Place, run: RunPlan) -> Iterator[tuple[str, str]]:
    """Jobs of other runs that are needed by their ids, and cannot be: by whom, and why. An engine says so too, of the first."""
    own = {job.id for job in run.jobs}
    wanted = [(job.spec.key, need) for job in run.jobs for need in job.spec.needs if need.job not in own]
    if not wanted:
        return
    if not place.folder.exists():
        yield from ((key, f"there is no job {need.job}: this state folder is new") for key, need in wanted)
        return
    try:
        reader = place.reader()
    except StoreTooOld:
        return  # the engine brings the store up to date, and looks by itself
    with reader:
        for key, need in wanted:
            job = reader.job(need.job)
            if job is None:
                yield key, f"there is no job {need.job} in this state folder"
            elif need.index is not None and need.index >= (job.size or 0):
                has = "is no array" if job.size is None else f"has {job.size:,} children, counted from 0"
                yield key, f"job {need.job} {has}: it has no child {need.index}"


def read_source(request: SourceRequest) -> list[str]:
    """The lines of a file, or the files of a pattern in order. Raises OSError."""
    if request.kind == "glob":
        names = sorted(name for name in glob.glob(request.path, recursive=True) if Path(name).is_file())
        for name in names:
            if not is_text(name):
                raise OSError(84, f"matches {os.fsencode(name)!r}, whose name is not UTF-8")
        return names
    from flowbatch.spec.arrays import lines_of

    return lines_of(content_of(request.path))


def content_of(path: str) -> bytes:
    """As much as may be, and a byte. A pipe is read to its end, where somebody writes into it (`<(…)` of a shell); for one that nobody
    has opened we would wait for ever. Raises OSError."""
    from flowbatch.spec.arrays import SOURCE_BYTES

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            if not select.select([descriptor], [], [], PIPE_SECONDS)[0]:
                raise OSError(11, f"is a pipe into which nobody has written for {PIPE_SECONDS:g} s")
            os.set_blocking(descriptor, True)
        return stream.read(SOURCE_BYTES + 1)
