"""The readable functions that faster twins replace, and checks whether a reader changed one.

A twin is not used if its readable function was changed. `ORIGINALS` has a digest of the source of each
function, without comments, docstrings and layout. If you change a function for good, also change its twins,
and enter the new digest here; the test of this file prints it."""

import ast
import hashlib
import linecache
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from types import FunctionType
from typing import Any

from tinygan import autograd, average, gan, layers, optim, rng
from tinygan.autograd import Op
from tinygan.errors import UsageError
from tinygan.fast import conv as fast_conv
from tinygan.fast import ops as fast_ops
from tinygan.layers import Network
from tinygan.ops import activation, batchnorm, conv, dense, dropout, geometry, loss

TWINS = fast_ops.TWINS | {conv: fast_conv.TWINS}  # of the ops, by the file of each
ORIGINALS: dict[Any, dict[str, str]] = {
    gan: {
        "losses_and_gradients": "76d1aa6d", "train_step": "69016fd7", "discriminator_loss": "851c9010",
        "generator_loss": "f1d514ba",
    },
    layers: {
        "Layer": "7a3dbfdf", "Linear": "9f27e7df", "Dense": "66040afd", "Conv2D": "69d3c9f8",
        "Conv2DTranspose": "276e0aef", "BatchNorm": "e90a43be", "LeakyReLU": "0218cb58", "Tanh": "996a26ac",
        "Dropout": "3f63a4fe", "Reshape": "695038f7", "Mode": "701a7d34", "Network": "178caf13",
    },
    autograd: {
        "Op": "5145c6dc", "Tensor": "d33fdd51", "grad": "72c333ba", "_inputs_first": "d372b154",
        "add": "0a7c91da",
    },
    optim: {"Adam": "491c2d6c"},
    activation: {"leaky_relu": "2eea5c63", "tanh": "01aab7b3"},
    batchnorm: {"moments": "953cc883", "batch_norm": "8cae2746"},
    conv: {"im2col": "0e9d2217", "col2im": "17e6bed8", "conv2d": "4d69f565", "conv2d_transpose": "b8999ff7"},
    dense: {"dense": "298736ed", "reshape": "9986db0e"},
    dropout: {"dropout": "f714c583"},
    geometry: {
        "stride_pair": "d897e760", "conv2d_pads": "f15a6340", "conv2d_transpose_size": "9d4c790e",
        "_same_pads": "9e331577", "_explicit_pads": "9f4af063",
    },
    rng: {"Stream": "8d6fa03c", "mask_rate": "00d6984d"},
    loss: {"sigmoid": "a69663b1", "bce_with_logits": "800b7d08"},
}  # fmt: skip

# The functions that each kind of layer uses outside training.
USES = {
    "Dense": ["dense"], "Conv2D": ["conv2d", "im2col", *ORIGINALS[geometry]], "BatchNorm": ["batch_norm"],
    "Conv2DTranspose": ["conv2d_transpose", "col2im", *ORIGINALS[geometry]], "LeakyReLU": ["leaky_relu"],
    "Tanh": ["tanh"], "Reshape": ["reshape"], "Dropout": [],
}  # fmt: skip

# Further functions that the step on a graphics card has its own version of.
CARD_ORIGINALS: dict[Any, dict[str, str]] = {average: {"Average": "f7573eae"}}


def changed(originals: dict[Any, dict[str, str]] = ORIGINALS, read_again: bool = True) -> list[str]:
    """The functions, ops and classes that differ from their originals: ``gan.discriminator_loss`` and so on.
    This includes those replaced at run time, in their module or in one that imports them. Without sources
    the list is empty. Unless `read_again`, a file counts as this process first read it, that is, as it runs.
    Raises: UsageError if one was replaced but the code that should run it still has the original."""
    if read_again:
        linecache.checkcache()
    if not linecache.getlines(str(autograd.__file__), autograd.__dict__):
        return []
    own, elsewhere = [], []
    for file, name, known in [(file, *item) for file, names in originals.items() for item in names.items()]:
        now, here = vars(file).get(name), file.__name__.removeprefix("tinygan.")
        if edited := digest(now) != known:
            own.append(f"{here}.{name}")
        for part in (now.forward, now.backward) if isinstance(now, Op) and not edited else ():
            if vars(file).get(part.__name__, part) is not part:
                raise _out_of_use(f"{here}.{part.__name__}", f"{here}.{name}, an Op,")
        for other in originals:
            held, there = vars(other).get(name, now), f"{other.__name__.removeprefix('tinygan.')}.{name}"
            if held is not now and not edited:
                elsewhere.append(there)
            elif held is not now and not isinstance(now, type) and digest(held) == known:
                raise _out_of_use(f"{here}.{name}", there)
    return own + elsewhere


def _out_of_use(name: str, other: str) -> UsageError:
    return UsageError(f"{name} was replaced, but {other} still has the original. Also replace that.")


def added(*networks: Network) -> str:
    """The classes of networks and layers that a reader added, as in ``layers.Mine is new``, or ""."""
    kinds: set[type] = {type(part) for network in networks for part in (network, *network.layers.values())}
    new = kinds - {Network, *(vars(layers).get(name) for name in USES)}
    names = sorted(f"{kind.__module__.removeprefix('tinygan.')}.{kind.__name__}" for kind in new)
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} new" if names else ""


def unlike(*networks: Network) -> str:
    """What a reader added or changed in the code that these networks run outside training, or ""."""
    kinds = {type(layer).__name__ for network in networks for layer in network.layers.values()}
    used = {"Layer", "Linear", "Network", *kinds, *(name for kind in kinds for name in USES.get(kind, []))}
    edits = [name for name in changed(read_again=False) if name.rpartition(".")[2] in used]
    return ", ".join(filter(None, [added(*networks), described(edits)]))


def twins(edits: list[str]) -> dict[Any, Any]:
    """The fast engine's ops on a CPU, except those whose readable file was changed."""
    edited = {name.rpartition(".")[0].replace("geometry", "conv") for name in edits}
    kept = [ops for file, ops in TWINS.items() if file.__name__.removeprefix("tinygan.") not in edited]
    return {op: twin for ops in kept for op, twin in ops.items()}


def described(edits: list[str]) -> str:
    """The list that `changed` returns as the start of a sentence; "" if it is empty."""
    if not edits:
        return ""
    *first, last = edits if len(edits) < 4 else [*edits[:2], f"{len(edits) - 2} more"]
    return f"{', '.join(first)} and {last} were changed" if first else f"{last} was changed"


def digest(thing: Any) -> str:
    """8 hexadecimal digits for a function, an op (both functions) or a class (methods and constants)."""
    return hashlib.sha256("\n".join(map(repr, _parts(thing))).encode()).hexdigest()[:8]


def _parts(thing: Any) -> Iterator[Any]:
    if type(thing) is Op:
        yield from (*_parts(thing.forward), *_parts(thing.backward))
    elif isinstance(thing, type):
        yield [base.__name__ for base in thing.__bases__]
        for name, value in sorted(vars(thing).items()):
            value = getattr(value, "fget", getattr(value, "func", value))  # of properties
            if isinstance(value, FunctionType) and not (is_dataclass(thing) and name.startswith("__")):
                yield from _parts(value)
            elif not name.startswith("__") and isinstance(value, (int, float, str)):
                yield name, value
    else:
        try:
            code = thing.__code__  # of the function itself: `inspect` would unwrap a wrapper
            text = "".join(linecache.getlines(code.co_filename, thing.__globals__))
            yield thing.__globals__.get("__name__"), _functions(text)[code.co_name, code.co_firstlineno]
        except (AttributeError, KeyError, SyntaxError, TypeError):
            yield repr(thing)  # not from a file, so not the original


@cache
def _functions(text: str) -> dict[tuple[str, int], str]:
    """The functions that a file defines, by name and first line (the first decorator's, if any), as syntax
    trees without docstrings and without empty fields, which not all versions of Python write."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    for f in found:
        f.body = f.body[ast.get_docstring(f) is not None :]
    trees = (re.sub(r"\w+=(?:\[\]|None)|, ", "", ast.dump(f)) for f in found)
    starts = (min([f.lineno, *(d.lineno for d in f.decorator_list)]) for f in found)
    return {(f.name, start): tree for f, start, tree in zip(found, starts, trees, strict=True)}
