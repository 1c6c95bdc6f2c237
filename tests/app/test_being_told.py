"""The README's "Being told", followed to the letter: Slack, a pager, a signed webhook, and what a receiver has to do."""

from __future__ import annotations

import base64
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.app.commands import Commands, Done, commands
from tests.app.test_aws_command_line import snippets
from tests.hooks.receiver import LOOP, Receiver, receiver

pytestmark = pytest.mark.slow
WORKFLOW = """
name: film
jobs:
  check: {array: 3, script: test -e good || exit 3}
"""
ELSEWHERE = {"https://events.pagerduty.com/v2/enqueue": "pager", "https://alerts.example.net/hook": "hook"}
SECRET, BEFORE = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"n", b"o"))


def examples(server: Receiver) -> str:
    """The three of them in one file, to our receiver."""
    blocks = [text for kind, text in snippets("Being told") if kind == "yaml"]
    assert len(blocks) == 3
    text = f"secrets: {{{', '.join(found('^secrets: {(.*)}$', block) for block in blocks)}}}\nnotify:\n"
    text += "".join(found(r"^notify:\n((?:  .*\n)+)", block) for block in blocks)
    for url, path in ELSEWHERE.items():
        assert url in text
        text = text.replace(url, server.url(path))
    return text


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    assert match is not None, text
    return match[1]


async def flowbatch_says(flowbatch: Commands, *words: str) -> Done:
    return await anyio.to_thread.run_sync(partial(flowbatch.call, *words))


def bodies(server: Receiver, path: str) -> list[Any]:
    return [json.loads(body) for where, _, body in server.got if where == path]


async def test_the_readme_is_followed_to_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".config/flowbatch").mkdir(parents=True)
    (tmp_path / ".config/flowbatch/pagerduty").write_text("a-routing-key\n", encoding="ascii")
    async with receiver() as server:
        env = {"HOME": str(tmp_path), "SLACK_WEBHOOK_URL": server.url("slack")}
        env |= {"WEBHOOK_SECRET": SECRET, "WEBHOOK_SECRET_OLD": BEFORE}
        with commands(tmp_path, env) as flowbatch:
            flowbatch.write("flowbatch.yaml", f"webhooks: {{allow_networks: [{LOOP}], wait: 30s}}\n")
            flowbatch.write("film.yaml", WORKFLOW + examples(server))
            done = await flowbatch_says(flowbatch, "run", "film.yaml")
            assert (done.code, "Still owed" in done.err) == (1, False), done.err
            [slack] = bodies(server, "slack")
            said = [block["text"]["text"] for block in [*slack["blocks"], *slack["attachments"][0]["blocks"]]]
            assert said[0] == "film: 2 events, 2 failures"
            assert re.search(r"^film/check: 1 failed$.*^flowbatch show [0-9a-f]{8}$", said[1], re.MULTILINE | re.DOTALL)
            opened = bodies(server, "pager")
            assert {page["event_action"] for page in opened} == {"trigger"}
            assert {page["routing_key"] for page in opened} == {"a-routing-key"}
            flowbatch.write("good", "")
            done = await flowbatch_says(flowbatch, "retry", "last")
            assert (done.code, "Still owed" in done.err) == (0, False), done.err
            closed = bodies(server, "pager")[len(opened) :]
            assert {page["event_action"] for page in closed} == {"resolve"}
            assert {page["dedup_key"] for page in closed} == {page["dedup_key"] for page in opened}
    judge_received(server, monkeypatch)


def judge_received(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the README's own receiver, with the new secret and with the one before."""
    from standardwebhooks.webhooks import WebhookVerificationError

    [code] = [text for kind, text in snippets("Being told") if kind == "python"]
    requests = [(headers, body) for where, headers, body in server.got if where == "hook"]
    for secret in (SECRET, BEFORE):
        monkeypatch.setenv("WEBHOOK_SECRET", secret)
        scope: dict[str, Any] = {}
        exec(code, scope)
        events = [event for headers, body in requests for event in scope["receive"](body, headers)]
        assert [event for headers, body in requests for event in scope["receive"](body, headers)] == []
        kinds = {event["flowbatch"]["kind"] for event in events}
        assert {
            "run.failed",
            "run.succeeded",
            "job.failed",
            "job.succeeded",
            "child.failed",
            "child.succeeded",
        } <= kinds
        order: dict[str, list[int]] = {}
        for event in events:
            order.setdefault(event["flowbatch"]["subject"], []).append(event["flowbatch"]["seq"])
        assert all(seqs == sorted(seqs) for seqs in order.values())
    headers, body = requests[0]
    with pytest.raises(WebhookVerificationError):
        scope["receive"](body + b" ", headers)
