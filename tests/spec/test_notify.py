"""`notify:` of a file: what it means, what it cannot mean, and what is unwise."""

from __future__ import annotations

import pytest

from flowbatch.errors import WorkflowInvalid
from flowbatch.model.events import ChildEvents, children_wanted
from flowbatch.model.notify import Arrays, Filter, Form, Notify
from flowbatch.model.secret import SecretSource
from flowbatch.spec.schema import SecretModel
from flowbatch.spec.serving import House
from tests.spec.building import compiled

SECRETS = "secrets: {s: {env: S}, old: {file: old.txt}}\n"
JOBS = "jobs: {a: {script: x}}\n"


def sinks(text: str) -> tuple[Notify, ...]:
    return compiled(f"{SECRETS}{JOBS}notify: {text}").run.notify


def sink(body: str) -> Notify:
    [found] = sinks(f"[{{{body}}}]")
    return found


def wrong(body: str, before: str = SECRETS) -> str:
    with pytest.raises(WorkflowInvalid) as raised:
        compiled(f"{before}{JOBS}notify: [{{{body}}}]")
    return str(raised.value)


def warnings(body: str) -> str:
    return "\n".join(map(str, compiled(f"{SECRETS}{JOBS}notify: [{{{body}}}]").warnings))


def test_the_least() -> None:
    assert sink("to: 'https://hook.example/a'") == Notify("eventbridge", url="https://hook.example/a", workdir="/lab")


def test_all_of_it() -> None:
    made = sink(
        "name: chat, to: {secret: s}, as: slack, events: [run.*, job.failed], queue: fast, workflow: film-*, tags: {team: r*}, "
        "final: false, arrays: both, digest: 2m, rate: 3"
    )
    assert made == Notify(
        "chat", secret=SecretSource(env="S"), workdir="/lab", form=Form.SLACK, digest_ms=120_000, rate=3,
        filter=Filter(("run.*", "job.failed"), ("film-*",), ("fast",), (("team", "r*"),), False, Arrays.BOTH),
    )  # fmt: skip


def test_signatures_keys_files_and_programs() -> None:
    made = sink("to: 'https://hook.example', sign: [s, old], batch: 100")
    assert (made.sign, made.batch) == ((SecretSource(env="S"), SecretSource(file="/lab/old.txt")), 100)
    assert sink("to: 'https://api.example', as: pagerduty, key: s").key == SecretSource(env="S")
    assert sink("to: {jsonl: out/events.jsonl}").jsonl == "/lab/out/events.jsonl"
    assert sink("to: {exec: [logger, -t, flowbatch]}").command == ("logger", "-t", "flowbatch")
    assert sink("to: 'mailto://me:pw@example.org'").form is Form.TEXT


def test_chat_is_not_flooded() -> None:
    assert [each.rate for each in sinks("[{to: {secret: s}, as: slack}, {to: 'https://hook.example'}]")] == [1, None]


def test_names_are_made_from_what_there_is() -> None:
    made = sinks(
        "[{to: 'https://a.example'}, {to: 'https://b.example'}, {to: {secret: s}, as: slack}, {to: {jsonl: f}}]"
    )
    assert [each.name for each in made] == ["eventbridge", "eventbridge-2", "s", "jsonl"]


def test_targets_show_no_secret() -> None:
    assert sink("to: 'https://hooks.slack.com/services/T0/B0/XXXX?token=yy'").target == "https://hooks.slack.com"
    assert sink("to: 'mailto://me:pw@example.org/inbox'").target == "mailto://example.org"
    assert sink("to: {secret: s}").target == "(a secret)"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("to: nowhere", "'nowhere' is no URL; write https://…"),
        ("to: 7", "a URL or {secret: name}"),
        ("to: {}", "needs one of secret, jsonl, exec"),
        ("to: {secret: s, jsonl: f}", "needs one of secret, jsonl, exec"),
        ("to: {secret: z}", "unknown secret 'z'"),
        ("to: 'https://'", "it names no host"),
        ("to: 'https://a:99999/'", "is no URL: Port out of range"),
        ("to: 'https://u:p@hook.example'", "a URL holds no name and password; give a token as `key`"),
        ("to: 'https://a', as: sleck", "(did you mean 'slack'?)"),
        ("to: 'https://a', events: [run.faild]", "'run.faild' matches no kind of event (did you mean 'run.failed'?)"),
        ("to: 'https://a', as: pagerduty", "pagerduty needs `key`"),
        ("to: 'https://a', as: opsgenie", "opsgenie needs `key`"),
        ("to: 'https://a', as: alertmanager, digest: 1m", "opened and closed job by job"),
        ("to: 'https://a', as: slack, batch: 5", "`digest` makes one message of many"),
        ("to: 'https://a', batch: 5, digest: 1m", "leave `batch` or `digest` out"),
        ("to: 'https://a', sign: [s, old, s]", "has at most 2 entries"),
        ("to: 'mailto://a', as: slack", "slack is a form of webhooks"),
        ("to: 'mailto://a', sign: s", "only webhooks are signed"),
        ("to: {jsonl: f}, as: text", "a jsonl file takes eventbridge or cloudevents"),
        ("to: {exec: [a]}, batch: 2", "a program gets one event"),
        ("to: {exec: [a]}, key: s", "only webhooks are signed and take a `key`"),
        ("to: 'https://a', evnts: b", "unknown key 'evnts' (did you mean 'events'?)"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(body: str, message: str) -> None:
    assert message in wrong(body)


def test_two_of_one_name() -> None:
    with pytest.raises(WorkflowInvalid, match=r"notify\[1\]\.name: 'a' is the name of another receiver"):
        sinks("[{name: a, to: 'https://a'}, {name: a, to: 'https://b'}]")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("to: 'https://hooks.slack.com/services/T0/B0/XXXX'", "looks like a password"),
        ("to: 'https://discord.com/api/webhooks/1/abc'", "looks like a password"),
        ("to: 'https://a.example/h?token=0123456789'", "looks like a password"),
        ("to: 'https://a.example/0123456789abcdef0123456789'", "looks like a password"),
        ("to: 'mailto://me:pw@example.org'", "holds its password"),
        ("to: 'http://a.example/hook'", "is not encrypted"),
    ],
)
def test_what_is_unwise(body: str, message: str) -> None:
    assert message in warnings(body)
    assert "write {secret: name}" in warnings(body) or "http://" in body


def test_nothing_is_unwise_about_a_secret() -> None:
    assert warnings("to: {secret: s}, as: slack") == warnings("to: 'https://hook.example/a'") == ""


def test_a_secret_that_is_not_there_is_told_where_the_file_names_it() -> None:
    with pytest.raises(WorkflowInvalid, match=r"secrets\.s\.env: no such thing; 's' of notify needs it"):
        compiled(f"{SECRETS}{JOBS}notify: [{{to: {{secret: s}}}}]", absent=lambda source: "no such thing")


@pytest.mark.parametrize(
    ("filter_", "wanted"),
    [
        (Filter(), ChildEvents.NONE),
        (Filter(("job.*",)), ChildEvents.NONE),
        (Filter(("child.failed",)), ChildEvents.ENDS),
        (Filter(("child.*",)), ChildEvents.ALL),
        (Filter(("job.failed",), arrays=Arrays.CHILDREN), ChildEvents.ENDS),
        (Filter(("job.failed",), arrays=Arrays.BOTH, final=False), ChildEvents.ALL),
        (Filter(("run.*",), arrays=Arrays.BOTH), ChildEvents.NONE),
        (Filter((), arrays=Arrays.CHILDREN), ChildEvents.ALL),
    ],
)
def test_what_must_be_logged_of_children(filter_: Filter, wanted: ChildEvents) -> None:
    assert children_wanted((filter_,)) is wanted


def test_who_a_server_runs_files_for_names_public_addresses() -> None:
    """What a secret of the settings leads to is the word of who wrote them."""
    house = House({"s": SecretModel(env="S")})
    told = compiled(f"{JOBS}notify: [{{to: 'https://hook.example/a'}}, {{to: {{secret: s}}}}]", house=house).run.notify
    assert [each.public for each in told] == [True, False]
