"""Run folders for reports, as training leaves them, made without training."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.checks import numbers
from tinygan.backend import cpu
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings
from tinygan.runs.state import PREVIEWS, State, pictures_of
from tinygan.views.pictures import grid, save_png, to_uint8

STEPS_PER_EPOCH = 5
HEALTH = {
    "real_accuracy": 0.75, "fake_accuracy": 0.5, "real_spread": 0.1, "fake_spread": 0.2, "diversity": 0.9,
    "nearest": 0.8, "dead": 0.125,
}  # fmt: skip


def made_up_state(step: int = 0, **settings: Any) -> State:
    """Networks whose weights make pictures with high contrast."""
    state = State(Settings(**settings), cpu())
    networks = state.G.parameters | state.G.statistics, state.D.parameters
    for i, (name, tensor) in enumerate(item for tensors in networks for item in tensors.items()):
        values = numbers(i, *tensor.shape).astype(np.float32)
        if name.endswith("kernel"):
            tensor.data = 3 * tensor.data
        else:
            tensor.data = np.exp(values / 4) if name.endswith(("variance", "gamma")) else values / 4
    state.step = step
    return state


def stats_row(epoch: int, verdict: str = "healthy: D recognises 75% of real pictures") -> dict[str, Any]:
    """A row of the statistics; some of its numbers depend on the epoch."""
    return {
        "epoch": epoch, "step": epoch * STEPS_PER_EPOCH, "g_loss": 0.7 + epoch / 100, "d_loss": 1.3,
        "real_score": 0.6, "fake_score": 0.4, "seconds": 2.0, "images_per_second": 100.0 + epoch,
        "health": HEALTH, "verdict": verdict, "advice": "",
    }  # fmt: skip


def made_up_run(
    out: Path, epochs: int = 3, state: State | None = None, name: str = "made up", **settings: Any
) -> tuple[RunFolder, State]:
    """A run folder after `epochs` epochs, and its state."""
    state = state or made_up_state(epochs * STEPS_PER_EPOCH, **settings)
    chosen = Settings(**{"batch_size": 20, "epochs": epochs, **settings})
    run = RunFolder.create(out, name)
    shape = [STEPS_PER_EPOCH * 20, chosen.size, chosen.size, chosen.channels]
    run.write_config(
        {
            "commands": [{"time": "2026-01-02T03:04:05+00:00", "command": "python -m tinygan.train"}],
            "settings": asdict(chosen),
            "data": {"name": name, "source": "nowhere", "shape": shape, "sha256": "0" * 64},
            "device": {"device": "cpu", "engine": "fast", "precision": "float32", "threads": 2},
            "versions": {"tinygan": "0.1.0", "numpy": "2.0.0"},
        }
    )
    rng = np.random.default_rng(0)
    for epoch in range(epochs + 1):
        images = pictures_of(state.G, rng.standard_normal((PREVIEWS, chosen.noise_dim)).astype(np.float32))
        save_png(run.sample_path(epoch), grid(to_uint8(images)))
        if epoch:
            run.append_stats(stats_row(epoch))
    save_png(run.reals_path, grid(rng.integers(0, 256, (PREVIEWS, *shape[1:]), dtype=np.uint8)))
    run.append_losses(0.5 + rng.random((epochs * STEPS_PER_EPOCH, 4)))
    return run, state
