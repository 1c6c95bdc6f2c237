"""What flowbatch.yaml says of a server: where it listens, which folders it watches for whom, how long its records are kept."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, PlainValidator

from flowbatch.spec.findings import Findings
from flowbatch.spec.places import Surroundings
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.serving import Folder, Serve
from flowbatch.spec.values import Name

DAY_MS: Final = 24 * 3600 * 1000


def retention(value: object) -> int:
    """`90d`, or a duration; never less than a day, for a record that somebody may still ask for."""
    from flowbatch.spec.quantities import duration_ms

    if isinstance(value, str) and value[:-1].isdigit() and value.endswith("d"):
        kept_ms = int(value[:-1]) * DAY_MS
    else:
        kept_ms = duration_ms(value)
    if kept_ms < DAY_MS:
        raise ValueError("records are kept for at least 24h; leave the key out to keep them for ever")
    return kept_ms


Retention = Annotated[int, PlainValidator(retention, json_schema_input_type=int | str)]
Text = Annotated[str, Field(min_length=1)]


class TlsModel(Strict):
    """A certificate and its private key, in PEM."""

    cert: Text = Field(description="The chain of the certificate.")
    key: Text = Field(description="Its private key, which nobody else may read.")


class FolderModel(Strict):
    """A folder of workflows that the server watches, and what its files may."""

    path: Text = Field(description="Below the settings' own folder, unless it begins with / or ~.")
    principal: Name | None = Field(
        None,
        description="Whose calls its runs are: user/NAME in policies and in the audit log. The folder's own name unless given.",
    )
    policies: list[Name] | None = Field(
        None, description="What the principal may (`flowbatch key policy`). Everything, unless given."
    )
    owners: list[Name | int] | None = Field(
        None, description="Users whose files are taken, beside root's and the server's own."
    )
    runs_per_minute: Annotated[float, Field(gt=0)] | None = Field(
        None, description="What comes faster waits its turn. Unlimited unless given."
    )


class ServeModel(Strict):
    """The server. Flags win over it."""

    listen: list[Text] | None = Field(None, min_length=1, description="[127.0.0.1:7070] unless given.")
    host_names: list[Text] | None = Field(None, description="Names that the server is reached by.")
    tls: TlsModel | None = Field(None, description="What is needed beyond this machine, unless a proxy does it.")
    behind_proxy: bool = Field(False, description="Something in front of the server speaks TLS.")
    account: Annotated[str, Field(pattern="^[0-9]{12}$")] | None = Field(None, description="In ARNs.")
    region: Text | None = Field(None, description="In ARNs; us-east-1 unless given.")
    strict: bool = Field(True, description="AWS's limits hold for its API.")
    rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Calls a second of each key; unlimited unless given."
    )
    folders: list[FolderModel] | None = Field(None, max_length=32, description="Folders of workflows.")


class AuditModel(Strict):
    """The record of who called what."""

    retention: Retention | None = Field(
        None,
        description="How long calls are kept, at least 24h (`400d`); for ever unless given. Apart from `retention`.",
    )
    mirror: Text | None = Field(None, description="A file that every record is written to as well, as a line of JSON.")


def serve_of(model: ServeModel, around: Surroundings, findings: Findings) -> Serve:
    """Paths made absolute; two folders of one path or principal are a problem."""
    folders: list[Folder] = []
    for number, each in enumerate(model.folders or ()):
        path = around.absolute(each.path)
        principal = each.principal or path.rpartition("/")[2] or "root"
        made = Folder(
            path,
            principal,
            None if each.policies is None else tuple(each.policies),
            tuple(each.owners or ()),
            each.runs_per_minute,
        )
        for other in folders:
            if other.path == path:
                findings.problem(("serve", "folders", number, "path"), f"{path} is watched already")
            elif other.principal == principal:
                findings.problem(
                    ("serve", "folders", number),
                    f"{principal!r} is the principal of {other.path} already; give another",
                )
        folders.append(made)
    tls = model.tls
    return Serve(
        tuple(model.listen or ()),
        tuple(model.host_names or ()),
        None if tls is None else (around.absolute(tls.cert), around.absolute(tls.key)),
        model.behind_proxy,
        model.account,
        model.region,
        model.strict,
        model.rate,
        tuple(folders),
    )
