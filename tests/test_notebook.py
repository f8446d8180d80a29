"""A notebook, run cell by cell in a real kernel: training, pictures, curves, interruption, errors."""

from typing import Any

import pytest

from tests.commands import clean_environment

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

SETTINGS = 'data="strokes", limit=80, batch_size=32, width=2, noise_dim=5'
CELLS = {
    "train": f"import tinygan\nrun = tinygan.train({SETTINGS}, epochs=3)",
    "run": "run",
    "curves": "print(run.losses['g_loss'].shape, run.epochs['epoch'])",
    "pictures": "model = tinygan.load(run)\nmodel.generate(4, seed=1)",
    "walk": "model.interpolate(*model.noise(2), frames=6)",
    "steps": """
import numpy as np
images = np.random.default_rng(0).random((64, 28, 28))
for epoch in tinygan.training(images, batch_size=32, width=2, epochs=50, quiet=True):
    display(epoch.samples)
    print(epoch.losses)
    if epoch.number == 2:
        break""",
    "resumed": "tinygan.train(images, resume=True, quiet=True, epochs=50, steps=8).epochs['epoch'].tolist()",
    "stop": f"""
import os, signal, threading
before = signal.getsignal(signal.SIGINT)
threading.Timer(2, os.kill, (os.getpid(), signal.SIGINT)).start()
tinygan.train({SETTINGS}, epochs=100_000, no_report=True, name="stopped")""",
    "stopped": "print(signal.getsignal(signal.SIGINT) is before, tinygan.load('stopped').name)",
    "wrong": "tinygan.train(learning_rate=1)",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell displays."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(code.strip(), id=name) for name, code in CELLS.items()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    ).execute(env=clean_environment(folder))
    return {cell.id: cell.outputs for cell in notebook.cells}


def text(shown: list[Any]) -> str:
    return "".join(output.get("text", "") for output in shown)


def test_training_shows_its_log_and_a_moving_progress_line(outputs):
    shown = text(outputs["train"])
    assert "epoch 3/3 done" in shown and "\r" in shown
    assert [output.output_type for output in outputs["train"] if output.output_type == "error"] == []


def test_a_run_shows_its_verdict_its_samples_and_curves(outputs):
    (shown,) = outputs["run"]
    page = shown.data["text/html"]
    assert "epoch 3: too early to say" in page and "data:image/png;base64," in page
    assert page.count("<polyline") == 2


def test_curves_are_arrays(outputs):
    assert text(outputs["curves"]) == "(9,) [1 2 3]\n"


@pytest.mark.parametrize("cell", ["pictures", "walk"])
def test_pictures_are_displayed(outputs, cell):
    (shown,) = outputs[cell]
    assert shown.data["image/png"].startswith("iVBORw0KGgo")  # a PNG file in base 64


def test_epochs_come_one_by_one_and_the_run_can_be_resumed(outputs):
    pictures = [output for output in outputs["steps"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 2 and text(outputs["steps"]).count("'g_loss': 0.") == 2
    assert outputs["resumed"][-1].data["text/plain"] == "[1, 2, 3, 4]"


def test_an_interrupted_cell_is_saved_and_shows_one_line(outputs):
    error = outputs["stop"][-1]
    (line,) = error.traceback
    assert error.ename == "StoppedError" and "interrupted; everything is saved" in line
    assert text(outputs["stopped"]).startswith("True epoch_")


def test_bad_input_is_one_line(outputs):
    error = outputs["wrong"][-1]
    (line,) = error.traceback
    assert error.ename == "UsageError" and "Did you mean --lr=1?" in line
