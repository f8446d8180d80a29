"""``python -m tinygan.inspect``: a look inside the networks of a run, and at one step of their training."""

from __future__ import annotations

import argparse
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygan import backend, commands, data
from tinygan.autograd import Tensor
from tinygan.errors import CheckpointError, UsageError
from tinygan.layers import Conv2D, Conv2DTranspose, Network
from tinygan.rng import stream
from tinygan.runs import checkpoint
from tinygan.runs.explanation import explain
from tinygan.runs.folder import RunFolder
from tinygan.runs.inspection import formula, look, method, original, run, table
from tinygan.runs.pictures import grid, save_png
from tinygan.runs.state import State, folder_of, saved_settings
from tinygan.runs.training import Batch, StepByStep, plan

WIDTH = 100  # characters of a line
LARGEST = 256  # maps shown
LEGEND = (
    "Numbers are weights and running statistics, multiply-adds those of one example by the layer's "
    "definition. Times are of the whole batch, layer by layer; a training step of the fast engine joins "
    "layers and takes less time; how it computes a convolution is chosen by counting multiplications and "
    "numbers moved to and from memory (tinygan/fast/conv.py, conv_plan), all else as its formula says. Mean "
    "and spread are of the output; the gradient is that of the network's loss with respect to it. G has "
    "looked at the batch's noise, D at its real images. Dead: share of channels that nothing in the batch "
    "makes positive. All in training mode, and G as it trains: where a run averages its weights, the average "
    "paints the pictures you see."
)


def parser() -> commands.Parser:
    parser = commands.Parser("tinygan.inspect", "Look into a run's networks, layer by layer.", of_a_run=True)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--layer",
        metavar="NAME",
        help="one layer: its formula, its shapes, and pictures of its kernels and of what it makes; "
        "generator/NAME or discriminator/NAME where both have one of that name",
    )
    what.add_argument(
        "--explain",
        action="store_true",
        help="one training step in words, with its real numbers and the lines of code that made them: those "
        "of the readable engine",
    )
    parser.add_argument("--engine", choices=backend.ENGINES, help="whose ops to look at; default: the run's")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="where fashion-mnist/ lies")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Tell what `arguments` ask for; returns the exit code. Nothing of the run is changed."""
    options = parser().parse_args(arguments)
    if options.explain and options.engine == "fast":
        raise UsageError("--explain takes its step with the readable engine. Leave --engine out.")
    path, arrays, meta = checkpoint.newest_intact(checkpoints(options), commands.warn)
    settings = saved_settings(meta, path, arrays)
    folder = options.data_dir or (Path(settings.data_dir) if settings.data_dir else None)
    images = data.load(
        settings.data,
        data_dir=folder,
        size=settings.size,
        channels=settings.channels,
        limit=settings.limit,
        report=commands.warn,
    )
    if meta.get("data_sha256") != images.sha256:
        raise CheckpointError(f"{path} was trained on other images than {images.source} holds now.")
    plan(settings, len(images.images))  # whether there is a batch of them
    # Words follow the code that is for reading; whoever looks at a device's speed trains there.
    own = "auto" if settings.engine == "fast" else settings.engine  # nobody asks for it now
    settings = replace(settings, engine="readable" if options.explain else options.engine or own)
    device = backend.choose("cpu", settings.engine, report=commands.warn)
    state = State(settings, device)
    state.restore(arrays, path)
    stepping = StepByStep(state, images, settings, device)
    batch = stepping.batch()
    if options.explain:
        tell_step(explain(state, images, settings))
    elif options.layer:
        tell_layer(state, batch, options.layer, folder_of(path))
    else:
        tell_layers(state, batch, path, stepping.how)
    return 0


def tell_step(parts: Iterable[tuple[str, list[str]]]) -> None:
    """Titles, and the sentences below them."""
    for title, sentences in parts:
        print(title)
        for sentence in sentences:
            print(textwrap.fill(sentence, WIDTH, initial_indent="  ", subsequent_indent="  "))


def tell_layers(state: State, batch: Batch, path: Path, how: str) -> None:
    """A table of both networks; `how`: the way a training step is taken."""
    engine = state.G.backend.engine
    print(f"{path}, engine {engine}, {len(batch.noise)} vectors of noise, {len(batch.images)} images")
    print(f"A training step is taken {how}.")
    for network, looks in zip((state.G, state.D), look(state, batch), strict=True):
        print()
        for line in table(network, looks):
            print(line)
    print()
    for line in textwrap.wrap(LEGEND, WIDTH):
        print(line)


def tell_layer(state: State, batch: Batch, name: str, folder: Path) -> None:
    """One layer: words, shapes, pictures."""
    network, key = find_layer(state, name)
    first = batch.noise if network is state.G else batch.images
    outputs = run(network, Tensor(first, network.backend), stream(0, "dropout"))
    number = list(network.layers).index(key)
    x, y = (first if number == 0 else outputs[number - 1].data), outputs[number].data
    node = outputs[number].node
    assert node is not None
    how, where = method(network, node)
    words = formula(original(network, node))
    print(f"{network.name}/{key} [{where}]")
    print(textwrap.indent(words, "  "))
    print(f"  here: x {x.shape} -> y {y.shape}")
    layer = network.layers[key]
    for kind, tensors in (("trained", layer.parameters), ("gathered", layer.statistics)):
        for own, tensor in tensors.items():
            values = tensor.data
            print(f"  {own} {values.shape}, {kind}: mean {values.mean():+.4f}, spread {values.std():.4f}")
    print(f"  method: {'as the formula says' if words.startswith(how) else how}")
    stem = f"{network.name}_{key}"
    if isinstance(layer, Conv2D | Conv2DTranspose):
        show(
            layer.kernel.data.reshape(*layer.kernel.shape[:2], -1), folder / f"{stem}_kernels.png", "kernels"
        )
    if y.ndim == 4:
        show(y[0], folder / f"{stem}_maps.png", "maps of the first example")


def show(maps: np.ndarray, path: Path, what: str) -> None:
    """Write maps (H, W, K) as a grid: grey is 0, white and black the largest numbers above and below."""
    shown = maps[:, :, :LARGEST]
    scaled = shown / max(float(np.abs(shown).max()), 1e-12)
    save_png(path, grid(scaled.transpose(2, 0, 1)[..., None]))
    print(
        f"  {what}: {path}"
        + (f", the first {LARGEST} of {maps.shape[2]:,}" if maps.shape[2] > LARGEST else "")
    )


def find_layer(state: State, name: str) -> tuple[Network, str]:
    """The network and the key of the layer `name`. Raises UsageError where there is none, or two."""
    all_of_them = [(network, key) for network in (state.G, state.D) for key in network.layers]
    found = [(network, key) for network, key in all_of_them if name in (key, f"{network.name}/{key}")]
    if len(found) != 1:
        names = ", ".join(f"{network.name}/{key}" for network, key in found or all_of_them)
        raise UsageError(
            f"--layer {name} is {'in both networks' if found else 'no layer'}. Use one of {names}."
        )
    return found[0]


def checkpoints(options: argparse.Namespace) -> list[Path]:
    """The checkpoint files of the run that is named, or the one that is."""
    if options.run and os.path.isfile(options.run):
        return [Path(options.run)]
    return RunFolder.find(options.run, options.runs, trained=True)[0].checkpoints()


if __name__ == "__main__":
    sys.exit(commands.run(main))
