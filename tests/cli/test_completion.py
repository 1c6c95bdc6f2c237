from __future__ import annotations

import pytest

from flowbatch.cli.main import run


@pytest.mark.parametrize(
    ("shell", "first", "where"),
    [
        ("bash", "_flowbatch_completion() {", "~/.bashrc"),
        ("zsh", "#compdef flowbatch", "~/.zshrc"),
        ("fish", "function _flowbatch_completion;", "~/.config/fish/completions/flowbatch.fish"),
    ],
)
def test_a_script_and_where_it_goes(shell: str, first: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == first
    assert lines[-1].startswith("# ")
    assert where in lines[-1]
    assert any("_FLOWBATCH_COMPLETE" in line for line in lines)


def test_an_unknown_shell_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "csh"]) == 2
    assert "'bash', 'zsh', 'fish'" in capsys.readouterr().err
