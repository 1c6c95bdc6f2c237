"""What people may ask of a running engine, with arguments and answers as JSON has them: one place for every way in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final
from uuid import uuid4

from flowbatch.core.snapshot import overview, snapshot
from flowbatch.core.state import Job
from flowbatch.core.why import explain
from flowbatch.engine.loop import Engine
from flowbatch.engine.place_verbs import PlaceVerbs
from flowbatch.errors import InputError
from flowbatch.model.access import AuditRow, KeyRow, PolicyRow
from flowbatch.model.definition import Registration
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, TaskKey
from flowbatch.model.stimuli import (
    Audited,
    Cancel,
    CreateToken,
    DeletePolicy,
    DeleteToken,
    DeregisterDefinition,
    EnableSink,
    PruneAudit,
    PutKey,
    PutPolicy,
    Redeliver,
    RegisterDefinition,
    Resume,
    Retry,
    ReviveDead,
    Stimulus,
    SubmitJob,
    SubmitRun,
    Target,
    Terminate,
    UpdateToken,
)
from flowbatch.model.tokens import Token, TokenKind, TokenOperation

Arguments = Mapping[str, Any]  # as they came over the socket: every verb checks its own
LOCAL_OWNER: Final = "owner"  # where no server says whose account it is
PARAMS_MAX: Final = 4096  # characters of a command that the audit log keeps
Verb = Callable[[Arguments], Awaitable[object]]


class Verbs:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.owner: str | None = None  # whose calls these are, where they are recorded
        self.table: dict[str, Verb] = {
            "ping": self.ping,
            "cancel": self.cancel,
            "terminate": self.terminate,
            "retry": self.retry,
            "resume": self.resume,
            "why": self.why,
            "watch_log": self.watch_log,
            "gc": self.gc,
            "redeliver": self.redeliver,
            "revive_dead": self.revive_dead,
            "enable_sink": self.enable_sink,
            "submit_job": self.submit_job,
            "submit_run": self.submit_run,
            "queues": self.queues,
            "queue": self.queue,
            "register_definition": self.register_definition,
            "deregister_definition": self.deregister_definition,
            "create_token": self.create_token,
            "update_token": self.update_token,
            "delete_token": self.delete_token,
            "put_key": self.put_key,
            "keys": self.keys,
            "put_policy": self.put_policy,
            "prune_audit": self.prune_audit,
            "delete_policy": self.delete_policy,
            **PlaceVerbs(engine.machine.state, self._ask).table,
        }

    async def call(self, verb: str, arguments: Arguments) -> object:
        """Raises InputError where the verb or its arguments make no sense, or the engine refuses."""
        known = self.table.get(verb)
        if known is None:
            raise InputError(f"this engine knows no verb {verb!r}; it has {', '.join(sorted(self.table))}")
        return await known(arguments)

    async def ping(self, _: Arguments) -> object:
        state = self._engine.machine.state
        return {
            "runs": list(state.runs),
            "held": [run.id for run in state.runs.values() if run.held],
            "live": len(state.live),
            "draining": state.draining,
            "store_full": self._engine.full_since is not None,
            "serving": self.owner is not None,
        }

    async def cancel(self, arguments: Arguments) -> object:
        target, reason = target_of(arguments), text_of(arguments, "reason", "Cancelled by the user")
        return await self._ask(lambda ticket: Cancel(ticket, target, reason))

    async def terminate(self, arguments: Arguments) -> object:
        target, reason = target_of(arguments), text_of(arguments, "reason", "Terminated by the user")
        return await self._ask(lambda ticket: Terminate(ticket, target, reason))

    async def retry(self, arguments: Arguments) -> object:
        target = target_of(arguments)
        return await self._ask(lambda ticket: Retry(ticket, target))

    async def resume(self, arguments: Arguments) -> object:
        run = arguments.get("run")
        return await self._ask(lambda ticket: Resume(ticket, None if run is None else RunId(str(run))))

    async def why(self, arguments: Arguments) -> object:
        """None where the job has ended: the store knows more of it than the engine."""
        state = self._engine.machine.state
        job = state.jobs.get(JobId(text_of(arguments, "job", "")))
        if job is None:
            return None
        index = arguments.get("index")
        if index is not None and not (isinstance(index, int) and 0 <= index < job.tasks):
            raise InputError(f"{job.spec.key} has no child {index}: its indices are 0..{job.tasks - 1}")
        return explain(state, job, index, self._engine.clock.now()) + self._hold_up(job, index)

    def _hold_up(self, job: Job, index: int | None) -> str:
        """What the backend knows of a task that is with it; of an array, of the first such child."""
        for live in self._engine.machine.state.live.values():
            if live.key.job == job.id and index in (None, live.key.idx):
                backend = self._engine.backends.get(live.backend)
                waits = None if backend is None else backend.waits_for(live.key)
                if waits is not None:
                    return f"; it waits for {waits}"
        return ""

    async def queues(self, _: Arguments) -> object:
        return overview(self._engine.machine.state)

    async def queue(self, arguments: Arguments) -> object:
        """None where there is no queue of that name, which is whole: `bulk`, or `1a2b3c4d/bulk` of a run."""
        state = self._engine.machine.state
        queue = state.queues.get(text_of(arguments, "queue", ""))
        return None if queue is None else snapshot(state, queue, self._engine.clock.now())

    async def watch_log(self, arguments: Arguments) -> object:
        """Somebody reads along what an attempt prints; said again every few seconds. Fine for one that has ended."""
        try:
            key = AttemptKey.parse(text_of(arguments, "attempt", ""))
        except ValueError:
            raise InputError("watch_log needs `attempt`, the id of one") from None
        live = self._engine.machine.state.live.get(TaskKey(key.job, key.idx))
        if live is not None and live.key.attempt == key.attempt and live.backend in self._engine.backends:
            self._engine.backends[live.backend].watch_log(key)
        return None

    async def gc(self, arguments: Arguments) -> object:
        before = arguments.get("before")
        if not isinstance(before, int):
            raise InputError("gc needs `before`, in epoch milliseconds")
        return await self._engine.collect(before)

    async def submit_job(self, arguments: Arguments) -> object:
        """The job's id, or the ids of needed jobs that the engine knows nothing of: the asker tells of them in `ended`."""
        from flowbatch.engine import submitting

        plan = submitting.plan_of(arguments.get("plan"))
        ended = submitting.ended_of(arguments.get("ended", []))
        return await self._ask(lambda ticket: SubmitJob(ticket, plan, ended))

    async def submit_run(self, arguments: Arguments) -> object:
        """The run's id. The plan was compiled, and judged, by who asks."""
        from flowbatch.engine import submitting

        plan = submitting.run_plan_of(arguments.get("plan"))
        return await self._ask(lambda ticket: SubmitRun(ticket, plan, must_fit=True))

    async def redeliver(self, arguments: Arguments) -> object:
        key, source = needed(arguments, "key"), needed(arguments, "source")
        first, last = arguments.get("first"), arguments.get("last")
        if not isinstance(first, int) or not isinstance(last, int) or not 1 <= first <= last:
            raise InputError("redeliver needs `first` and `last`, numbers of events")
        return await self._ask(lambda ticket: Redeliver(ticket, key, source, first, last))

    async def revive_dead(self, arguments: Arguments) -> object:
        key = needed(arguments, "key")
        return await self._ask(lambda ticket: ReviveDead(ticket, key))

    async def enable_sink(self, arguments: Arguments) -> object:
        key = needed(arguments, "key")
        return await self._ask(lambda ticket: EnableSink(ticket, key))

    async def register_definition(self, arguments: Arguments) -> object:
        tags = arguments.get("tags") or {}
        name, body, digest = (needed(arguments, key) for key in ("name", "body", "digest"))
        made = Registration(name, body, digest, tuple((str(key), str(value)) for key, value in tags.items()))
        return await self._ask(lambda ticket: RegisterDefinition(ticket, made))

    async def deregister_definition(self, arguments: Arguments) -> object:
        name, revision = needed(arguments, "name"), arguments.get("revision")
        if not isinstance(revision, int):
            raise InputError("deregister_definition needs `revision`, a number")
        return await self._ask(lambda ticket: DeregisterDefinition(ticket, name, revision))

    async def create_token(self, arguments: Arguments) -> object:
        tags = arguments.get("tags") or {}
        kind = TokenKind[one_of(arguments, "type", TokenKind.__members__)]
        token = Token(needed(arguments, "name"), whole(arguments, "total"), kind)
        pairs = tuple((str(key), str(value)) for key, value in tags.items())
        return await self._ask(lambda ticket: CreateToken(ticket, token, pairs))

    async def update_token(self, arguments: Arguments) -> object:
        name, quantity = needed(arguments, "name"), whole(arguments, "quantity")
        operation = TokenOperation[one_of(arguments, "operation", TokenOperation.__members__)]
        return await self._ask(lambda ticket: UpdateToken(ticket, name, operation, quantity))

    async def delete_token(self, arguments: Arguments) -> object:
        name = needed(arguments, "name")
        return await self._ask(lambda ticket: DeleteToken(ticket, name))

    async def keys(self, _: Arguments) -> object:
        return [key._asdict() for key in self._engine.machine.state.keys.values()]

    async def put_key(self, arguments: Arguments) -> object:
        """A key as it is from now on; one that is there keeps what is not given."""
        key_id, state, now = needed(arguments, "id"), self._engine.machine.state, self._engine.clock.now()
        known = state.keys.get(key_id)
        if known is None:
            known = KeyRow(key_id, needed(arguments, "name"), 1, (), now, None, None)
        policies = arguments.get("policies")
        expires_at = arguments.get("expires_at")
        row = known._replace(
            policies=known.policies if policies is None else tuple(map(str, policies)),
            expires_at=known.expires_at if expires_at is None else Millis(int(expires_at)),
            generation=known.generation + (1 if arguments.get("rotate") else 0),
            revoked_at=now if arguments.get("revoke") else known.revoked_at,
        )
        await self._ask(lambda ticket: PutKey(ticket, row))
        return row._asdict()

    async def put_policy(self, arguments: Arguments) -> object:
        """The document was judged by who asks; the engine keeps it."""
        made = PolicyRow(needed(arguments, "name"), needed(arguments, "document"), self._engine.clock.now())
        return await self._ask(lambda ticket: PutPolicy(ticket, made))

    async def prune_audit(self, arguments: Arguments) -> object:
        """Recorded whoever asks: the record that says so is what the rest of the log is verified by."""
        seq, digest = whole(arguments, "seq"), needed(arguments, "hash")
        answer = await self._engine.ask(
            lambda ticket: self._recorded(PruneAudit(ticket, seq, digest), by=self.owner or LOCAL_OWNER)
        )
        return answer.value

    async def delete_policy(self, arguments: Arguments) -> object:
        name = needed(arguments, "name")
        return await self._ask(lambda ticket: DeletePolicy(ticket, name))

    async def _ask(self, command: Callable[[int], Stimulus]) -> object:
        """What the folder's owner changes by the command line is in the audit log as any other call is."""
        answer = await self._engine.ask(lambda ticket: self._recorded(command(ticket)))
        if answer.error is not None:
            raise InputError(answer.error)
        return answer.value

    def _recorded(self, command: Stimulus, by: str | None = None) -> Stimulus:
        who = by or self.owner
        if who is None:
            return command
        text = repr(command)
        digest = hashlib.sha256(text.encode()).hexdigest()
        action, now = f"flowbatch:{type(command).__name__}", self._engine.clock.now()
        shown = None if len(text) > PARAMS_MAX else json.dumps(text)
        row = AuditRow(now, who, None, None, "flowbatch", action, "*", True, None, str(uuid4()), shown, digest)
        return Audited(command, row)


def target_of(arguments: Arguments) -> Target:
    run, job, indices = arguments.get("run"), arguments.get("job"), arguments.get("indices")
    if run is None and job is None:
        raise InputError("a target is missing: a run or a job")
    ranges = None if indices is None else tuple((int(lo), int(hi)) for lo, hi in indices)
    return Target(
        None if run is None else RunId(str(run)),
        None if job is None else JobId(str(job)),
        ranges,
        bool(arguments.get("failed", False)),
    )


def text_of(arguments: Arguments, name: str, default: str) -> str:
    value = arguments.get(name)
    return value if isinstance(value, str) and value else default


def needed(arguments: Arguments, name: str) -> str:
    """A text without which there is nothing to do."""
    value = arguments.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"`{name}` is missing: a text is needed")
    return value


def whole(arguments: Arguments, name: str) -> int:
    value = arguments.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"`{name}` is missing: a whole number is needed")
    return value


def one_of(arguments: Arguments, name: str, words: Iterable[str]) -> str:
    value = arguments.get(name)
    if value not in (known := list(words)):
        raise InputError(f"`{name}` is one of {', '.join(known)}, not {value!r}")
    return str(value)
