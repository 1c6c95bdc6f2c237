"""The README's "Use it as AWS Batch", followed to the letter, and more of AWS's own command line (PyPI's awscli)."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.app.commands import PATIENCE_S, Commands
from tests.app.test_serve import start

pytestmark = pytest.mark.slow  # each `aws` takes half a second to start
README: Final = Path(__file__).parents[2] / "README.md"


def snippets(heading: str) -> list[tuple[str, str]]:
    """The code blocks of a section: their language, and their text."""
    section = re.search(rf"^## {heading}$(.*?)^## ", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section is not None, f"the README has no section {heading!r}"
    return re.findall(r"^```(\w+)\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)


class Newcomer:
    """A shell in the server's folder, with `flowbatch`, `aws` and `python` on its PATH."""

    def __init__(self, flowbatch: Commands) -> None:
        flowbatch.state = flowbatch.folder / ".flowbatch"  # where it is unless somebody says otherwise
        self.folder = flowbatch.folder
        _server, self.url = start(flowbatch)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = {**flowbatch.env, "PATH": path, "AWS_EC2_METADATA_DISABLED": "true", "HOME": str(flowbatch.folder)}

    def types(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def here(self, text: str) -> str:
        """What the README says of the usual port, for ours."""
        return text.replace("http://127.0.0.1:7070", self.url)


def test_the_readme_is_followed_to_the_letter(flowbatch: Commands) -> None:
    (first_kind, first), *rest = snippets("Use it as AWS Batch")
    assert (first_kind, shlex.split(first, comments=True)) == ("sh", ["flowbatch", "serve"])
    newcomer = Newcomer(flowbatch)
    script = ["set -euo pipefail"]
    for at, (kind, text) in enumerate(rest):
        if kind == "python":
            flowbatch.write(f"snippet{at}.py", text)
            text = f"python snippet{at}.py\n"
        script += [f"echo '=== {at}'", newcomer.here(text)]
    done = newcomer.types("\n".join(script))
    assert done.returncode == 0, done.stderr
    said = dict(re.findall(r"^=== (\d)\n(.*?)(?=^===|\Z)", done.stdout, re.MULTILINE | re.DOTALL))
    assert [kind for kind, _ in rest] == ["sh", "python", "sh", "sh"]
    assert '"jobDefinitionArn": "arn:aws:batch:us-east-1:000000000000:job-definition/hello:1"' in said["0"]
    assert 'hello\n"SUCCEEDED"\n' in said["0"]
    assert '"jobName": "first"' in said["0"]
    assert re.search(r"'(SUCCEEDED|RUNNABLE|STARTING|RUNNING|PENDING)': \d", said["1"])
    assert '"computeEnvironmentName": "nightly"' in said["2"]
    assert '"jobQueueName": "nightly"' in said["2"]
    assert '"jobName": "later"' in said["2"]
    assert "fbk_" in said["3"]
    assert "batch:CreateJobQueue" in said["3"]
    assert done.stderr == ""


def test_jobs_by_the_command_line_of_aws(flowbatch: Commands) -> None:
    """What the README does not show: arrays with options, a filter, terminate, a refusal, an output that is empty."""
    newcomer = Newcomer(flowbatch)
    exports = next(text for kind, text in snippets("Use it as AWS Batch") if "export AWS_" in text)
    head = [line for line in newcomer.here(exports).splitlines() if line.startswith("export ")]
    pipe = flowbatch.pipe("go")
    box = {"command": ["cat", str(pipe.path)], "resourceRequirements": [{"type": "VCPU", "value": "0.25"}]}
    script = f"""
set -u
aws batch register-job-definition --job-definition-name wait --type container \\
  --container-properties {shlex.quote(json.dumps(box))} --query revision
array=$(aws batch submit-job --job-name many --job-queue default --job-definition wait:1 --array-properties size=2 \\
  --tags team=film --retry-strategy attempts=2 --timeout attemptDurationSeconds=600 --query jobId --output text)
aws batch list-jobs --job-queue default --filters name=JOB_NAME,values='MAN*' --query 'jobSummaryList[].jobName' --output text
aws batch terminate-job --job-id $array --reason enough && echo terminated
flowbatch logs -f $array:0 && flowbatch logs -f $array:1
aws batch describe-jobs --jobs $array $array:1 00000000-0000-4000-8000-000000000000 \\
  --query 'jobs[].[status, statusReason, tags.team, retryStrategy.attempts]' --output text
aws batch submit-job --job-name j --job-queue nowhere --job-definition wait || echo refused
"""
    done = newcomer.types("\n".join([*head, script]))
    assert done.stdout.splitlines() == [
        "1",
        "many",
        "terminated",
        "FAILED\tArray Child Job failed\tfilm\t2",
        "FAILED\tenough\tNone\t2",
        "refused",
    ]
    assert (
        "(ClientException) when calling the SubmitJob operation: Error executing request, Exception : " in done.stderr
    )
