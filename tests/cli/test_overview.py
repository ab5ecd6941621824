import re
import subprocess
from collections.abc import Callable

import pytest

import kr_text as package
from kr_text.cli import COMMANDS

Shell = Callable[..., subprocess.CompletedProcess[str]]
Main = Callable[..., int]
INFERENCE = ["--batch_size", "--bf16", "--device"]
HEAVY = {"torch", "transformers", "numpy", "scipy", "datasets", "yaml"}


def test_kr_text_without_a_command_prints_the_overview(kr_text: Main, capsys: pytest.CaptureFixture[str]) -> None:
    assert kr_text() == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: kr-text COMMAND [FLAGS]\n")
    for argv in (["--help"], ["-h"], ["help"]):
        assert kr_text(*argv) == 0
        assert capsys.readouterr().out == out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_overview_has_a_summary_and_an_example_of_each_command(
    kr_text: Main, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert kr_text() == 0
    out = capsys.readouterr().out
    assert re.search(rf"\n    {command} +{COMMANDS[command].SUMMARY}\n", out)
    assert re.search(rf"\n  kr-text {command} .*  \w+", out)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], []])
def test_the_overview_and_the_version_import_nothing_heavy(shell: Shell, argv: list[str]) -> None:
    done = shell("-c", f"import sys, kr_text.cli; print(kr_text.cli.main({argv})); print(*sys.modules)")
    *_, code, modules = done.stdout.splitlines()
    assert code == "0"
    assert "argparse" in modules.split()
    assert HEAVY & set(modules.split()) == set()


def test_the_version_is_printed_within_half_a_second_of_processor_time(shell: Shell) -> None:
    code = "import time, kr_text.cli; kr_text.cli.main(['--version']); print(time.process_time())"
    version, seconds = shell("-c", code).stdout.splitlines()
    assert version == f"kr-text {package.__version__}"
    assert float(seconds) < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_help_before_and_after_a_command_are_the_same(
    kr_text: Main, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert kr_text("help", command) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: kr-text {command} ")
    for flag in ("--help", "-h"):
        assert kr_text(command, flag) == 0
        assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (
            "evaluate",
            [
                "MODEL",
                "DATASET",
                *["--dataset", "--split", "--text_column", "--label_column", "--batch_size", "--bf16", "--device"],
            ],
        ),
        (
            "predict",
            [
                "MODEL",
                "INPUT",
                *["--text_column", "--output_file", "--top_k", "--threshold", "--batch_size", "--device"],
            ],
        ),
        ("run", ["GRID", "--results", "--data", "--work", "--workers", "--engine", "--fresh", "--only", "--training"]),
        ("report", ["RESULTS", "--grids"]),
    ],
)
def test_the_help_of_a_command_has_its_arguments_and_nothing_heavy(
    shell: Shell, command: str, arguments: list[str]
) -> None:
    done = shell("-c", f"import sys, kr_text.cli; kr_text.cli.main(['help', '{command}']); print(*sys.modules)")
    assert [argument for argument in arguments if not re.search(rf"\n  {argument}\b", done.stdout)] == []
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "kr-text: unknown command 'trian'; did you mean train?"),
        (["help", "reprot"], "kr-text: unknown command 'reprot'; did you mean report?"),
        (["serve"], f"kr-text: unknown command 'serve'; the commands are {', '.join(COMMANDS)} and help"),
        (["--versoin"], "kr-text: unknown flag '--versoin'; did you mean --version?"),
    ],
)
def test_an_unknown_command_is_one_line_with_the_nearest_or_all_commands(
    kr_text: Main, capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert kr_text(*argv) == 2
    assert capsys.readouterr() == ("", f"{message}\n")


def test_the_module_is_the_command(shell: Shell) -> None:
    done = shell("-m", "kr_text", "trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "kr-text: unknown command 'trian'; did you mean train?\n"
