"""``python -m tinygan.explain``: explain one training step of a run, or list its networks layer by layer."""

import inspect
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np

from tinygan import cli
from tinygan.autograd import Tensor
from tinygan.errors import UsageError, by_product, plural, say
from tinygan.layers import Conv2D, Conv2DTranspose, Network
from tinygan.rng import stream
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import State, folder_of, saved_settings
from tinygan.runs.trainer import Batch, StepByStep, check_images, images_of, schedule
from tinygan.views.explanation import explain
from tinygan.views.inspection import layer_facts, method, original, outputs, table
from tinygan.views.pictures import grid, save_png

WIDTH = 100  # characters per line
LARGEST = 256  # most maps in one picture
LEGEND = (
    "Numbers: weights and running statistics. Multiply-adds: of one example, by the layer's definition. "
    "Times: of the whole batch, layer by layer. The fast engine's training step merges layers, and can "
    "compute a convolution in another way: the cheapest one, estimated from multiplications and memory "
    "traffic (tinygan/fast/conv.py, conv_plan). All other layers follow their formulas. Mean and spread: "
    "of the output. Gradient: of the network's loss with respect to the output. G gets the batch's noise, "
    "D its real images. Dead: share of channels that are positive nowhere in the batch. All in training "
    "mode. G has its latest weights; if a run averages its weights, the average makes the pictures you see."
)


def parser() -> cli.Parser:
    purpose = "Explain one training step of a run, with its real numbers and the lines of code."
    examples = {"": "a step in words", "--layers": "all layers", "--layer 04_conv_transpose": "one"}
    parser = cli.Parser("tinygan.explain", purpose, "run", "--runs", "--data-dir", **examples)
    add, one = parser.add_argument, parser.add_mutually_exclusive_group().add_argument
    one("--layers", action="store_true", help="explain all layers: work, time, statistics")
    layer = "explain one layer: formula, shapes, pictures of kernels, outputs; generator/NAME if both have it"
    one("--layer", metavar="NAME", help=layer)
    engine = "the ops to explain: readable or fast (default: the run's)"
    add("--engine", **cli.OPTIONS["--engine"] | {"default": None, "help": engine})
    add("--out", type=cli.path, metavar="DIR", help="folder for the pictures of --layer (default: the run's)")
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Print what `arguments` ask for; return the exit code. The run is only read."""
    options = parser().parse(arguments)
    if options.out and not options.layer:
        raise UsageError("--out is for the pictures of --layer. Add --layer NAME, or drop --out.")
    in_words = not (options.layers or options.layer)
    if in_words and options.engine == "fast":
        raise UsageError("only the readable engine explains a step. Leave --engine out, or add --layers.")
    files = RunFolder.checkpoint_files(options.run, options.runs)
    path, arrays, meta = checkpoint.newest_intact(files, cli.warn)
    settings = saved_settings(meta, path, arrays)
    images = images_of(settings, cli.warn, options.data_dir)
    check_images(images, images.sha256, meta.get("data_sha256"), path, RunFolder(folder_of(path)))
    schedule(settings, len(images.images))  # fails if there are too few for a batch
    # The explanation follows the readable code. --layers measures the CPU, whatever device trained the run.
    own = "auto" if settings.engine == "fast" else settings.engine  # required then, optional now
    settings = replace(settings, engine="readable" if in_words else options.engine or own)
    with cli.computing("cpu", settings.engine) as device:
        state = State(settings, device)
        state.restore(arrays, path)
        stepping = StepByStep(state, images)
        if in_words:
            wrapper = textwrap.TextWrapper(WIDTH, initial_indent="  ", subsequent_indent="  ")
            for title, sentences in explain(stepping):
                print(title, *map(wrapper.fill, sentences), sep="\n")
        elif options.layer:
            print_layer(state, stepping.batch(), options.layer, options.out or folder_of(path))
        else:
            print_layers(state, stepping.batch(), path, stepping.how)
    return 0


def print_layers(state: State, batch: Batch, path: Path, how: str) -> None:
    """Print a table of both networks. `how`: how a training step runs."""
    noise, images = plural(len(batch.noise), "vector"), plural(len(batch.images), "image")
    say(f"{path}, engine {state.G.backend.engine}, {noise} of noise, {images}")
    print(f"A training step runs {how}.")
    for network, facts in zip((state.G, state.D), layer_facts(state, batch), strict=True):
        print("", *table(network, facts), sep="\n")
    print("", textwrap.fill(LEGEND, WIDTH), sep="\n")


def print_layer(state: State, batch: Batch, name: str, folder: Path) -> None:
    network, key = find_layer(state, name)
    first = Tensor(batch.noise if network is state.G else batch.images, network.backend)
    at = list(network.layers).index(key)
    x, y = [first, *outputs(network, first, stream(0, "dropout"))][at : at + 2]
    assert y.node is not None
    how, where = method(network, y.node)
    words = inspect.getdoc(original(network, y.node)) or ""
    print(f"{network.name}/{key} [{where}]", textwrap.indent(words, "  "), sep="\n")
    print(f"  here: x {x.shape} -> y {y.shape}")
    layer = network.layers[key]
    for kind, tensors in (("trained", layer.parameters), ("not trained", layer.statistics)):
        for own, tensor in tensors.items():
            values = tensor.data
            print(f"  {own} {values.shape}, {kind}: mean {values.mean():+.4f}, spread {values.std():.4f}")
    print(f"  method: {'by the formula' if words.startswith(how) else how}")
    stem = f"{network.name}_{key}"
    if isinstance(layer, Conv2D | Conv2DTranspose):
        show(layer.kernel.data.reshape(*layer.kernel.shape[:2], -1), folder, f"{stem}_kernels.png", "kernels")
    if len(y.shape) == 4:
        show(y.data[0], folder, f"{stem}_maps.png", "maps of the first example")


def show(maps: np.ndarray, folder: Path, name: str, what: str) -> None:
    """Write maps (H, W, K) as a grid of grey pictures: black, grey and white are -m, 0 and m = max |maps|."""
    shown = maps[:, :, :LARGEST].transpose(2, 0, 1)[..., None]
    part = f", the first {LARGEST} of {maps.shape[2]:,}" if maps.shape[2] > LARGEST else ""
    with by_product(f"picture of the {what}", cli.warn):
        path = cli.made(folder) / name
        save_png(path, grid(shown / max(float(np.abs(shown).max()), 1e-12)))
        say(f"  {what}: {path}{part}")


def find_layer(state: State, name: str) -> tuple[Network, str]:
    """The network and the key of the layer `name`. Raises: UsageError unless exactly one layer has it."""
    layers = {f"{one.name}/{key}": (one, key) for one in (state.G, state.D) for key in one.layers}
    found = [full for full in layers if name in (full, full.partition("/")[2])]
    if len(found) != 1:
        problem = "in both networks" if found else "no layer"
        raise UsageError(f"--layer {name} is {problem}. Use one of {', '.join(found or layers)}.")
    return layers[found[0]]


if __name__ == "__main__":
    sys.exit(cli.run(main))
