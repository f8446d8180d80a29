"""`--help` of every command: one screen, examples first, every default in the same form."""

import re
import shlex
from argparse import SUPPRESS

import pytest

from tinygan.__main__ import COMMANDS
from tinygan.runs.settings import DESCRIBED, RECIPES, option

SCREEN = 40  # lines of 80 characters


@pytest.fixture
def shown(monkeypatch, capsys):
    """A function: the text that a command prints for ``--help`` or ``--help-all``."""
    monkeypatch.setenv("COLUMNS", "80")

    def shown(command, option="--help"):
        with pytest.raises(SystemExit):
            COMMANDS[command][0].main([option])
        return capsys.readouterr().out

    return shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_one_screen(command, shown):
    lines = shown(command).splitlines()
    assert len(lines) <= SCREEN and max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: python -m tinygan.{command} ") and lines[0].endswith("[options]")


@pytest.mark.parametrize("command", COMMANDS)
def test_what_all_commands_have_comes_last(command, shown):
    groups = re.findall(r"^(\S[^\n]*):$", shown(command), flags=re.M)
    assert groups[0] == "examples" and groups[-1] == "options"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_come_first_and_are_understood(command, shown):
    examples = shown(command).split("\n\n")[2].splitlines()
    assert examples.pop(0) == "examples:" and len(examples) > 1
    for line in examples:
        python, *words = shlex.split(line, comments=True)
        assert [python, *words[:2]] == ["python", "-m", f"tinygan.{command}"]
        COMMANDS[command][0].parser().parse(words[2:])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_default_has_the_same_form(command, shown):
    text = " ".join(shown(command, "--help-all" if command == "train" else "--help").split())
    assert text.count("default") == len(re.findall(r"\(default: [^()]+\)", text))
    for action in COMMANDS[command][0].parser()._actions:
        if action.default not in (None, False, [], SUPPRESS):
            own = f"{action.default:g}" if isinstance(action.default, float) else str(action.default)
            rest = text.partition(f" {action.option_strings[-1]} {action.metavar}")[2]
            assert rest.partition("(default: ")[2].startswith(f"{own})"), action


def test_help_all_explains_every_option_of_train(shown):
    short, full = shown("train"), shown("train", "--help-all")
    for name, known in DESCRIBED.items():
        assert option(name) in short and f"  {option(name)}" in full, name
        (text,) = re.findall(rf"^  {option(name)}(?= |\n)(.*?)(?=^  -|^$)", full, flags=re.M | re.S)
        own = "the recipe's" if name in RECIPES["best"] else known.default
        assert own in (None, False) or f"(default: {own})" in " ".join(text.split()), name
