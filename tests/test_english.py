"""Every sentence is written in plain English: phrases that read like a translation stay out of the tree."""

import re

import pytest

from tests.commands import ROOT

# What a native technical writer would not write, each with an example that the pattern must find.
BANNED = {
    r"(?<!here )\b(is|are|was) no (?!longer\b|more than\b|less than\b|other)": "it is no number",
    r"\b((a number|one|two|\d+) to an? \w+|to a channel)\b": "a number to a channel",
    r"(?<!\.)\b(tells?|told|telling)\b(?!\()": "it is told",
    r", too\b(?! (long|short|small|large|much)\b)": "a cat, too",
    r"\b(paint|judg)(s|ed|es|ing|e|er|ers)?\b(?!-)": "it is judged",
    r"\blook(s|ed|ing)?\b(?! (at|like|alike|up)\b)": "looked for",
    r"\b(be|been|is|are|was) had\b": "where it cannot be had",
    r"\bwhat is the matter\b": "what is the matter with it",
    r"\bhardly\b": "it hardly falls",
    r"\bso (many|often|few)\b": "so often",
    r"\b(lie|lies|lay|lain)\b": "where it lies",
    r"\b(stands|stood)\b(?! (for|in for)\b)": "it stands above",
    r"\bbeside\b": "beside it",
    r"\bof (its|their|one's|his) own\b": "a file of its own",
    r"\b(shall|ought|upon|thereof|thereby|therein|whom)\b": "it shall",
    r"\b(is|are) to be\b": "what is to be compared",
    r"\bas yet\b": "not as yet",
    r"\bin place of\b": "in place of dropout",
    r"\bfor (the rest|itself alone)\b": "for the rest",
    r"\b(?-i:Raises)(?!:)": "Raises UsageError",
}
ENDINGS = (".py", ".js", ".cu", ".css", ".html", ".md", ".sh", ".toml")
TOPS = ("README.md", "pyproject.toml", "tinygan", "benchmarks", "tests")
FILES = [file for top in TOPS for file in ((ROOT / top).rglob("*") if "." not in top else [ROOT / top])]
# Each text as one line: a phrase can continue on the next line, and in the next string.
JOINTS = r"( \"\n\s+f?\"|\s+((#|//|\*) )?)"


@pytest.fixture(scope="module")
def texts():
    return {
        str(file.relative_to(ROOT)): re.sub(JOINTS, " ", file.read_text(encoding="utf-8"))
        for file in FILES if file.suffix in ENDINGS and file.name != "test_english.py"
    }  # fmt: skip


@pytest.mark.parametrize("phrase", BANNED)
def test_a_phrase_that_reads_like_a_translation_is_gone(phrase, texts):
    found = [
        f"{name}: ...{text[max(0, match.start() - 60) : match.end() + 60]}..."
        for name, text in texts.items()
        for match in re.finditer(phrase, text, re.I)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("phrase", "example"), BANNED.items())
def test_each_pattern_finds_its_example(phrase, example):
    assert re.search(phrase, example, re.I)


def test_the_whole_tree_is_searched(texts):
    assert len(texts) > 200
