"""Which functions of the reading path faster code stands in for, and whether a reader changed one.

What you edit is what runs: where a function is not the one that a twin was written for, the twin is not used.
`ORIGINALS` has a digest of each of those functions, ops and classes, made of its source without comments,
docstrings and layout. If you change one for good, change its twins, and write down the new digest, which the
test of this file tells you.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from types import FunctionType
from typing import Any

from tinygan import autograd, average, gan, layers, optim, rng
from tinygan.autograd import Op
from tinygan.errors import UsageError
from tinygan.fast import activation as fast_activation
from tinygan.fast import batchnorm as fast_batchnorm
from tinygan.fast import conv as fast_conv
from tinygan.fast import dense as fast_dense
from tinygan.fast import dropout as fast_dropout
from tinygan.ops import activation, batchnorm, conv, dense, dropout, geometry, loss

FILES = fast_activation, fast_batchnorm, fast_conv, fast_dense, fast_dropout  # with twins of ops
ORIGINALS: dict[Any, dict[str, str]] = {
    gan: {
        "losses_and_gradients": "4a66992d", "train_step": "6f6cc84c", "discriminator_loss": "06c24c68",
        "generator_loss": "f6ac786b",
    },
    layers: {
        "Layer": "b2f3555f", "Linear": "3af5f5b0", "Dense": "0775f6a8", "Conv2D": "435d73a3",
        "Conv2DTranspose": "1a26073c", "BatchNorm": "4dff3b06", "LeakyReLU": "341de6c2", "Tanh": "17cd8a4d",
        "Dropout": "14c8a382", "Reshape": "bb1303c0", "Mode": "6a5a0be2", "Network": "cb57a2bb",
    },
    autograd: {
        "Op": "9a851eb1", "Tensor": "f63abc0c", "grad": "39a3a211", "_inputs_first": "13c0bbd1",
        "add": "1e63bc1e",
    },
    optim: {"Adam": "609ecb3f"},
    activation: {"leaky_relu": "3f76dd9d", "tanh": "528f0122"},
    batchnorm: {"moments": "6508d4c6", "batch_norm": "88054838"},
    conv: {"im2col": "326f894d", "col2im": "53bcb9b0", "conv2d": "d80c47e0", "conv2d_transpose": "1d00a127"},
    dense: {"dense": "9ef0b96d", "reshape": "3071ca88"},
    dropout: {"dropout": "e45a6f60"},
    geometry: {
        "stride_pair": "81a168c6", "conv2d_pads": "15a2434b", "conv2d_transpose_size": "27b263bb",
        "_same_pads": "84be64cd", "_explicit_pads": "a13da4cc",
    },
    rng: {"Stream": "b4ff48f4", "mask_rate": "74c3862d"},
    loss: {"sigmoid": "641c6c0f", "bce_with_logits": "676c1a99"},
}  # fmt: skip


# What the step on a graphics card has its own version of besides.
CARD_ORIGINALS: dict[Any, dict[str, str]] = {average: {"Average": "968781b2"}}


def changed(originals: dict[Any, dict[str, str]] = ORIGINALS) -> list[str]:
    """The functions, ops and classes that differ from their originals: ``gan.discriminator_loss`` and so on.

    One that was replaced at run time counts too, in its own module or in another that imports it.
    """
    now = {name: vars(module).get(name) for module, names in originals.items() for name in names}
    entries = [(file, name, told) for file, names in originals.items() for name, told in names.items()]
    own = [(file, name) for file, name, told in entries if digest(now[name]) != told]
    edited = {name for _, name in own}
    elsewhere = [
        (file, name)
        for file in originals
        for name, value in now.items()
        if name not in edited and vars(file).get(name) not in (None, value)
    ]
    return [f"{file.__name__.removeprefix('tinygan.')}.{name}" for file, name in own + elsewhere]


def twins(edits: list[str]) -> dict[Any, Any]:
    """The fast engine's ops on a processor, but for those whose readable file was changed."""
    edited = {name.rpartition(".")[0].replace("geometry", "conv") for name in edits}
    kept = [file for file in FILES if file.__name__.replace("tinygan.fast", "ops") not in edited]
    return {op: twin for file in kept for op, twin in file.TWINS.items()}


def described(edits: list[str]) -> str:
    """What `changed` found, as the beginning of a sentence."""
    *first, last = edits if len(edits) < 4 else [*edits[:2], f"{len(edits) - 2} more"]
    return f"{', '.join(first)} and {last} were changed" if first else f"{last} was changed"


def refuse(engine: str, edits: list[str]) -> None:
    """Raise a UsageError where the fast engine was asked for, and cannot do what was edited."""
    if engine == "fast" and edits:
        raise UsageError(
            f"--engine fast: {described(edits)}, and it has a version of its own. Use --engine auto."
        )


def digest(thing: Any) -> str:
    """8 hexadecimal digits for a function, an op (both its functions) or a class (methods and numbers)."""
    text = "\n".join(map(repr, _parts(thing)))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


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
            yield _source(thing)
        except (AttributeError, KeyError, SyntaxError, TypeError):
            yield repr(thing)  # not from a file: certainly not the original


def _source(function: FunctionType) -> Any:
    code = function.__code__  # of the function itself: `inspect` goes through a wrapper to what it wraps
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    return function.__globals__.get("__name__"), _tree(_functions(text)[code.co_name, code.co_firstlineno])


@cache
def _functions(text: str) -> dict[tuple[str, int], ast.AST]:
    """The functions that a file defines, by name and first line: that of a decorator, where there is one."""
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    return {(f.name, min([f.lineno, *(d.lineno for d in f.decorator_list)])): f for f in found}


def _tree(node: Any) -> Any:
    """A syntax tree as nested tuples, the same in every version of Python, without docstrings."""
    if isinstance(node, list):
        return tuple(map(_tree, node))
    if not isinstance(node, ast.AST):
        return node
    fields = dict(ast.iter_fields(node))
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
        fields["body"] = fields["body"][1:]
    given = {key: value for key, value in fields.items() if value not in (None, [])}
    return type(node).__name__, *((key, _tree(value)) for key, value in given.items())
