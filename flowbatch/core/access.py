"""Keys, policies, tags and the audit log: nothing is decided here, but it changes by the one door and is durable with its turn."""

from __future__ import annotations

import hashlib
import json

from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.access import AuditRow
from flowbatch.model.effects import Answer
from flowbatch.model.stimuli import DeletePolicy, LaunchFailed, PruneAudit, PutKey, PutPolicy, PutTags

RESPONSE_MAX = 4096  # characters of an answer that the audit log keeps
AS_JSON = json.JSONEncoder(separators=(",", ":")).encode  # `dumps` makes an encoder a call
LAUNCH = "flowbatch:Launch"


def on_put_key(state: State, command: PutKey, out: Turn) -> None:
    known = [name for name in command.key.policies if name not in state.policies]
    if known and command.key.revoked_at is None:
        out.answer(command.ticket, f"there is no policy {known[0]!r}")
        return
    state.keys[command.key.id] = out.writes.keys[command.key.id] = command.key
    out.answer(command.ticket, value={"key": command.key.id})


def on_put_policy(state: State, command: PutPolicy, out: Turn) -> None:
    """The document was read by `http.policies`: what is stored is understood."""
    row = command.policy._replace(updated_at=out.now)
    state.policies[row.name] = out.writes.policies[row.name] = row
    out.answer(command.ticket, value={"policy": row.name})


def on_delete_policy(state: State, command: DeletePolicy, out: Turn) -> None:
    users = [key.name for key in state.keys.values() if command.name in key.policies and key.revoked_at is None]
    if command.name not in state.policies:
        out.answer(command.ticket, f"there is no policy {command.name!r}")
    elif users:
        out.answer(
            command.ticket, f"policy {command.name!r} is held by a key of {users[0]}; revoke that, or give it another"
        )
    else:
        del state.policies[command.name]
        out.writes.policies[command.name] = None
        out.answer(command.ticket, value={"policy": command.name})


def on_put_tags(command: PutTags, out: Turn) -> None:
    out.writes.tags[command.kind, command.name] = command.tags
    out.answer(command.ticket, value={})


def on_prune_audit(command: PruneAudit, out: Turn) -> None:
    out.writes.audit_pruned = (command.seq, out.now)
    out.answer(command.ticket, value={"sequence": command.seq, "hash": command.hash})


def record(row: AuditRow, first_effect: int, out: Turn) -> None:
    """The call's own row, with how it was answered: by the first Answer since that effect."""
    answer = next((each for each in out.effects[first_effect:] if isinstance(each, Answer)), None)
    error = None if answer is None or answer.error is None else answer.error
    response = None
    if answer is not None and error is None and answer.value is not None:
        response = AS_JSON(answer.value)[:RESPONSE_MAX]
    out.writes.audit.append(row._replace(at=out.now, response=response, error=error))


def on_breach(fact: LaunchFailed, out: Turn) -> None:
    """An attempt that was killed because what it had was not what had been judged (security.md §6). Nobody called: it is refused to the
    attempt itself, whose id stands for the request's."""
    key, why = fact.key, fact.evidence.start_error or ""
    digest = hashlib.sha256(why.encode()).hexdigest()
    row = AuditRow(out.now, "flowbatch", None, None, None, LAUNCH, f"job/{key.job}", False, None, key.id, None, digest)
    out.writes.audit.append(row._replace(error=why))
