"""README tells the truth about files, names and short commands."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tinygan.__main__ import COMMANDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = sorted(set(re.findall(r"\]\(((?!http|#)[^)]+)\)", README)))
ROWS = re.findall(r"^\| \d \| \[`[\w/.]+`\]\((tinygan/[\w/]+)\.py\), (.+?) \|", README, flags=re.M)


@pytest.mark.parametrize("link", LINKS)
def test_a_file_that_is_linked_exists(link):
    assert (ROOT / link).exists()


def test_anchors_are_headings():
    headings = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)", README, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


@pytest.mark.parametrize(("file", "names"), ROWS)
def test_the_names_of_the_reading_path_exist(file, names):
    module = importlib.import_module(file.replace("/", "."))
    for name in re.findall(r"`(\w+)`", names):
        assert hasattr(module, name), f"{file}.py has no {name}"


def test_the_reading_path_has_seven_stations():
    assert len(ROWS) == 7


def test_every_command_that_is_named_exists_and_every_command_is_named():
    named = set(re.findall(r"python -m tinygan\.(\w+)", README))
    assert named == set(COMMANDS)


@pytest.mark.parametrize("code", re.findall(r'`python -c "([^`]+)"`', README))
def test_questions_are_answered_by_running_something(code):
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0 and result.stdout.strip(), result.stderr


def test_the_answers_are_those_that_the_questions_ask_for():
    pads, patches = re.findall(r'`python -c "([^`]+)"`', README)
    run = [
        subprocess.run([sys.executable, "-c", c], cwd=ROOT, capture_output=True, text=True)
        for c in (pads, patches)
    ]
    assert run[0].stdout.strip() == "((1, 2), (1, 2))"
    assert "[3. 6. 6. 9. 6. 9. 6. 6.]" in run[1].stdout  # uneven: every second pixel is painted more often


@pytest.mark.parametrize("line", re.findall(r"^python -m tinygan\.(\w+ .*?)(?:  +#.*)?$", README, flags=re.M))
def test_the_options_of_commands_exist(line):
    command, *arguments = shlex.split(line)
    help_text = subprocess.run(
        [sys.executable, "-m", f"tinygan.{command}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    for argument in arguments:
        if argument.startswith("--"):
            assert argument in help_text, f"{command} has no {argument}"
