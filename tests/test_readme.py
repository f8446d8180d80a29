"""README and the other pages are right about files, names, figures and short commands."""

import importlib
import json
import re
import shlex
from statistics import mean, median

import numpy as np
import pytest
from pytest import approx

from tests.commands import ROOT, works
from tinygan import errors
from tinygan.__main__ import COMMANDS
from tinygan.runs.settings import new_settings
from tinygan.trained import Run
from tinygan.views.health import verdict

README = (ROOT / "README.md").read_text(encoding="utf-8")
MANUAL = (ROOT / "tinygan/README.md").read_text(encoding="utf-8")
PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "tinygan/README.md", "tests/README.md", "benchmarks/results/README.md")
}
LINKS = sorted(
    {(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\((?!http)([^)]+)\)", text)}
)
ROWS = re.findall(
    r"^\| \d \| \[`[\w/.]+`\]\((tinygan/[\w/]+)\.py\), (.+?) \| (\d+) \|", README, flags=re.M
)


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_what_is_linked_exists(page, link):
    file, _, anchor = link.partition("#")
    path = (ROOT / page).parent / file if file else ROOT / page
    assert path.exists()
    assert not anchor or anchor in anchors(path.read_text(encoding="utf-8"))


def anchors(text):
    """Where a link into a Markdown file can lead: its headings, as links spell them."""
    headings = re.findall(r"^#+ (.+)", text, re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_step_on_the_first_screen_is_the_code_of_the_engine():
    shown = README.partition("```python\n")[2].partition("```")[0].splitlines()
    code = [line for line in (ROOT / "tinygan/gan.py").read_text().splitlines() if line in shown]
    assert [line for line in shown if line] == code and len(code) == 9


RESULTS = ROOT / "benchmarks/results"


def test_the_figures_of_truncation_are_those_that_were_measured():
    rows = {row["factor"]: row for row in json.loads((RESULTS / "truncation.json").read_text())["measured"]}
    (said,) = re.findall(r"precision rises from (.+?)\(\[`truncation.json", README, flags=re.S)
    digits = {"precision": 2, "recall": 2, "fcd": 0}
    expected = [round(rows[factor][name], digits[name]) for name in digits for factor in (1, 0.7)]
    assert [float(text) for text in re.findall(r"[\d.]+", said)] == expected


def test_the_figures_of_recipes_are_those_that_were_measured():
    earlier = json.loads((RESULTS / "recipes/recipes.json").read_text())
    rows = [json.loads(line) for line in (RESULTS / "recipes/five_minutes.jsonl").read_text().splitlines()]
    rows += [row | {"trial": row["recipe"]} for row in earlier["runs"] if row["recipe"] != "best"]
    for recipe in ("seed", "quick", "best"):
        measured = [row for row in rows if row["trial"] == recipe]
        (said,) = re.findall(rf"^\| `{recipe}`.*", README, flags=re.M)
        fcd, recall = (mean(row[name] for row in measured) for name in ("fcd", "recall"))
        assert said.endswith(f"| {fcd:.0f} | {recall:.2f} |") and len(measured) == 3
    (hour,) = map(json.loads, (RESULTS / "recipes/hour.jsonl").read_text().splitlines())
    assert f"{hour['steps']:,} steps, `best` has FCD {hour['fcd']:.1f}" in " ".join(README.split())


def test_the_table_of_speed_is_the_median_of_three_runs():
    runs = [json.loads((RESULTS / f"step_{number}.json").read_text())["competitors"] for number in (1, 2, 3)]
    for name, line in (
        ("tinygan", r"\*\*tinygan"), ("tensorflow", "TensorFlow"), ("pytorch-channels-last", "PyTorch"),
        ("jax", "JAX"),
    ):  # fmt: skip
        (said,) = re.findall(rf"^\| {line}.*?\| ([\d.]+) \| ([\d.]+) \|", README, flags=re.M)
        seconds, ratio = (
            median(run[name][key] for run in runs) for key in ("median_seconds", "ratio_to_tinygan")
        )
        assert tuple(map(float, said)) == (approx(seconds, abs=0.0051), approx(ratio, abs=0.0051)), name


def test_the_reliability_table_is_what_was_tried():
    found = json.loads((RESULTS / "reliability.json").read_text())["results"]
    table = PAGES["tests/README.md"].partition("\n## Reliability\n")[2]
    tried = {
        f"{found['kills']['kills']:,} kills at random instants of {found['kills']['saves']:,} saves; "
        f"{found['kills']['with_a_file_half_written']} of": found["kills"]["lost"],
        f"{found['exits']['exits']} deaths": found["exits"]["lost"],
        f"{found['power']['states']:,} states": found["power"]["bad"],
        f"{found['disk']['failures']} disk failures": found["disk"]["wrong"],
        f"{found['interrupts']['interruptions']} interruptions": found["interrupts"]["wrong"],
        f"{found['signals']['signals']} signals": found["signals"]["wrong"],
        f"{found['rivals']['meetings']} races": found["rivals"]["two_winners"],
    }  # fmt: skip
    files = found["mutants"]
    words = f"{sum(one['mutants'] for one in files):,} damaged files of {len(files)} formats"
    tried[words] = sum(len(one["first"]) for one in files)
    for words, bad in tried.items():
        assert re.search(rf"^\| {re.escape(words)}.*\| {bad} \|$", table, flags=re.M), words
    assert f"{found['disk']['failures']} disk failures" in README


def test_the_exit_codes_are_those_of_the_errors():
    codes = dict(re.findall(r"(\d) ([a-z ]+)", MANUAL.partition("Exit codes:")[2].partition("128")[0]))
    for error, word in (
        (errors.UsageError, "usage"), (errors.DeviceError, "device"), (errors.DataError, "data"),
        (errors.CheckpointError, "checkpoint"), (errors.NonFiniteError, "finite"),
    ):  # fmt: skip
        assert word in codes[str(error.exit_code)]
    assert "interrupted" in codes[str(errors.UNFINISHED)] and len(codes) == 8


BEST = [json.loads(line) for line in (RESULTS / "fashion-mnist-best/stats.jsonl").read_text().splitlines()]


def test_the_times_below_the_pictures_are_those_of_the_run():
    pictures, times = (README.splitlines()[at].strip("| ").split(" | ") for at in (PICTURES, PICTURES + 2))
    for picture, text in zip(pictures[1:], times[1:], strict=True):
        (epoch,) = map(int, re.findall(r"epoch_(\d+)", picture))
        assert text == f"{sum(row['seconds'] for row in BEST[:epoch]):.0f} s"


PICTURES = next(at for at, line in enumerate(README.splitlines()) if line.startswith("| !["))


def test_the_output_is_that_of_the_run(tmp_path):
    """Its words are printed by a short run of the same command; its figures are those of the run shown."""
    (shown,) = re.findall(r"```\n(epoch 1/3 .*?)```", README, flags=re.S)
    lines, small = shown.splitlines(), "--data strokes --limit 320 --width 8 --no-gif --no-report".split()
    printed = works("train", "--recipe", "best", "--epochs", "3", *small, cwd=tmp_path).stdout.splitlines()
    shapes = {re.sub(r"[\d.,]+", "0", line) for line in printed}
    for line in lines[::2]:
        assert re.sub(r"[\d.,]+", "0", line) in shapes, line
    for row, line, words in zip(BEST, lines[::2], lines[1::2], strict=False):
        means = "mean loss G {g_loss:.3f} D {d_loss:.3f}  D(x) {real_score:.2f} D(G(z)) {fake_score:.2f}"
        took = f"{row['seconds']:.3g} s  {row['images_per_second']:,.0f} images/s"
        assert line == f"epoch {row['epoch']}/3 done  {means.format(**row)}  {took}"
        said = verdict(BEST[: row["epoch"]], new_settings({"recipe": "best", "epochs": 3}))
        assert words.strip() == str(said)


@pytest.mark.parametrize(("file", "names", "lines"), ROWS)
def test_the_names_and_lines_of_the_reading_path_are_right(file, names, lines):
    assert len((ROOT / f"{file}.py").read_text(encoding="utf-8").splitlines()) == int(lines)
    module = importlib.import_module(file.replace("/", "."))
    for name in re.findall(r"`(\w+)`", names):
        assert hasattr(module, name), f"{file}.py has no {name}"


def test_the_reading_path_has_seven_stations():
    assert len(ROWS) == 7


# Names of the tutorial's and of TensorFlow's, which have become others here.
TUTORIAL = {
    "fashion_mnist.load_data", "tf.data.Dataset", "make_generator_model", "make_discriminator_model",
    "BinaryCrossentropy(from_logits=True)", "GradientTape", "tf.keras.optimizers.Adam", "tf.random.normal",
    "seed", "train", "tf.train.Checkpoint", "generate_and_save_images",
}  # fmt: skip
SECTION = README.partition("\n## Read it\n")[2].partition("\n## How fast\n")[0]
CODE = MANUAL.partition("\n## The code\n")[2].partition("\n### Change it\n")[0]
SECTION += CODE.replace("](", "](tinygan/")
NAMED = {span for span in re.findall(r"`([^`]+)`", SECTION) if not span.startswith(("python ", "--"))}


def known(name: str) -> bool:
    """Whether `name` is a file below tinygan/, or is in one of its modules: `gan.train_step`, `Adam`."""
    if "/" in name or name.endswith(".py"):
        return any((ROOT / "tinygan" / folder / name).exists() for folder in ("", "ops"))
    module, _, attribute = name.rpartition(".")
    modules = [f"tinygan.{module}"] if module else [file.replace("/", ".") for file in FILES]
    return any(hasattr(importlib.import_module(module), attribute) for module in modules)


FILES = sorted(set(re.findall(r"\]\((tinygan/[\w/]+)\.py\)", SECTION)))


@pytest.mark.parametrize("name", sorted(NAMED - TUTORIAL))
def test_every_file_and_name_of_the_reading_path_exists(name):
    assert known(name), f"README names {name}"


MAP = MANUAL.partition("\n## Where things are\n\n```\n")[2].partition("```")[0]


def test_the_map_shows_every_package_and_file_at_the_top():
    names = set(re.findall(r"[\w.]+/?", MAP))
    for path in (ROOT / "tinygan").iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert path.stem in names, path.name
        if (path / "__init__.py").exists():
            assert f"{path.name}/" in names, path.name


def test_the_map_shows_what_there_is():
    rows = re.findall(r"^  (\S.*?)  +\S", MAP, flags=re.M)
    for name in " ".join(rows).split():
        assert (ROOT / "tinygan" / name.rstrip("/")).is_dir() == name.endswith("/"), name
        assert name.endswith("/") or (ROOT / "tinygan" / f"{name}.py").is_file(), name


@pytest.mark.parametrize("package", ["fast", "cuda", "ranks", "data", "runs", "views", "evaluation"])
def test_the_map_names_every_file_of_a_package(package):
    (entry,) = re.findall(rf"^  {package}/ (.*?)(?=^  \S)", MAP, flags=re.M | re.S)
    paths = (ROOT / "tinygan" / package).glob("[!_]*.*")
    files = {path.stem for path in paths if path.suffix in (".py", ".cu")}
    assert files <= set(re.findall(r"\w+", entry))


def test_what_does_not_exist_is_found():
    assert len(NAMED) > 40 and TUTORIAL <= NAMED
    for name in ("gan.leap", "leap", "ops/leap.py", "leap.py"):
        assert not known(name), name


def test_every_command_that_is_named_exists_and_every_command_is_named():
    named = set(re.findall(r"python -m tinygan\.(\w+)", README))
    assert named == set(COMMANDS)


def test_the_example_in_python_runs(tmp_path, monkeypatch):
    """Word for word, but on few pictures and with a small model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYGAN_CACHE", str(tmp_path))
    (example,) = re.findall(r"```python\n(import .*?)```", MANUAL, flags=re.S)
    small = "limit=80, batch_size=32, width=2, quiet=True"
    for own, other in (
        ('"fashion-mnist", recipe="best", epochs=3', f'"strokes", epochs=3, {small}'),
        ("images, epochs=50", f"images, epochs=50, {small}"),
        ("resume=True", "resume=True, quiet=True, steps=9"),
    ):  # fmt: skip
        assert own in example
        example = example.replace(own, other)
    images = np.random.default_rng(0).integers(0, 256, (80, 28, 28, 1), np.uint8)
    exec(example, names := {"images": images, "pictures": images})
    assert names["epoch"].number == 2 and (tmp_path / "walk.png").exists()
    assert Run(tmp_path / "runs/0002-array").epochs["epoch"].tolist() == [1, 2, 3]


CODES = re.findall(r'`python -c "([^`]+)"`', MANUAL)


def test_the_answers_are_those_that_the_questions_ask_for(capsys):
    def answer(code):
        exec(code, {})
        return capsys.readouterr().out.strip()

    pads, patches, dropout = CODES
    assert answer(pads) == "((1, 2), (1, 2))"
    assert "[3. 6. 6. 9. 6. 9. 6. 6.]" in answer(patches)  # every second pixel more often
    assert "[2. 4. 4. 4. 4. 4. 4. 2.]" in answer(patches.replace("n.ones((5, 5,", "n.ones((4, 4,"))
    with_it, without = map(float, answer(dropout).split())
    assert with_it > 0.05 and without == 0


def test_a_batch_of_one_answers_its_question(tmp_path):
    train, explain = re.findall(r"`python -m tinygan\.(train --data .*|explain --layers)`", SECTION)
    said = works(*train.split(), cwd=tmp_path).stdout
    assert "batches of one picture: batch normalisation cancels G's noise. Start again" in said
    layers = works(*explain.split(), cwd=tmp_path).stdout
    dense, norm = [line.split() for line in layers.splitlines() if line.startswith("0")][:2]
    assert dense[0] == "00_dense" and set(dense[-2:]) == {"+0e+00", "0.0e+00"}  # no gradient comes through
    assert norm[0] == "01_batchnorm" and norm[7] == "0.00"  # whatever the noise


COMMAND_LINES = re.findall(r"^python -m tinygan\.(\w+ .*?)(?:  +#.*)?$", README + MANUAL, flags=re.M)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_options_of_commands_exist(line):
    command, *arguments = shlex.split(line)
    help_text = importlib.import_module(f"tinygan.{command}").parser().format_help()
    for argument in arguments:
        if argument.startswith("--"):
            assert argument in help_text, f"{command} has no {argument}"
