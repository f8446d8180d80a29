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
from tinygan.ops import activation, batchnorm, conv, dense, dropout, geometry, loss

ORIGINALS: dict[Any, dict[str, str]] = {
    gan: {
        "losses_and_gradients": "27969fad", "train_step": "6aa79b47", "discriminator_loss": "9f7abd56",
        "generator_loss": "f4e7feea",
    },
    layers: {
        "Layer": "aa6b7732", "Linear": "fe796305", "Dense": "b78d7d77", "Conv2D": "3595a020",
        "Conv2DTranspose": "e81bdf75", "BatchNorm": "06e7b462", "LeakyReLU": "4e86dc8f", "Tanh": "05217ac6",
        "Dropout": "42ecd32d", "Reshape": "aea637b6", "Mode": "95e37b90", "Network": "5853b6ca",
    },
    autograd: {
        "Op": "fab82eaf", "Tensor": "5b022309", "grad": "68d907d2", "_inputs_first": "3d6df1ff",
        "add": "82bb08d2",
    },
    optim: {
        "Adam": "c8bf8719",
    },
    activation: {
        "leaky_relu": "d6ce2a28", "tanh": "5014e073",
    },
    batchnorm: {
        "moments": "78474dab", "batch_norm": "18b28b5c",
    },
    conv: {
        "im2col": "68ea3503", "col2im": "9da6e90c", "conv2d": "4bc21d54", "conv2d_transpose": "acb86141",
    },
    dense: {
        "dense": "b1cd31f3", "reshape": "f26f0cee",
    },
    dropout: {
        "dropout": "0a9f1085",
    },
    geometry: {
        "stride_pair": "99cea396", "conv2d_pads": "34f7ae4b", "conv2d_transpose_size": "1f0c09fa",
        "_same_pads": "d60439ce", "_explicit_pads": "7b410049",
    },
    loss: {
        "sigmoid": "13dfba17", "bce_with_logits": "cccf9951",
    },
}  # fmt: skip


# What the step on a graphics card has its own version of besides.
CARD_ORIGINALS: dict[Any, dict[str, str]] = {
    rng: {"Stream": "22a4b9c2"},
    average: {"Average": "72fd24d4"},
}


def changed(originals: dict[Any, dict[str, str]] = ORIGINALS) -> list[str]:
    """The functions, ops and classes that differ from their originals: ``gan.discriminator_loss`` and so on.

    One that was replaced at run time counts too, in its own module or in another that imports it.
    """
    found = []
    now = {name: getattr(module, name, None) for module, names in originals.items() for name in names}
    for module, digests in originals.items():
        for name, value in now.items():
            own = vars(module).get(name)
            differs = digest(own) != digests[name] if name in digests else own not in (None, value)
            if differs:
                found.append(f"{module.__name__.removeprefix('tinygan.')}.{name}")
    return found


def described(edits: list[str]) -> str:
    """What `changed` found, as the beginning of a sentence."""
    more = len(edits) - 1
    return f"{edits[0]} and {more} more were changed" if more else f"{edits[0]} was changed"


def digest(thing: Any) -> str:
    """8 hexadecimal digits for a function, an op (both its functions) or a class (methods and numbers)."""
    text = "\n".join(map(repr, _parts(thing)))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, Op):
        yield from (*_parts(thing.forward), *_parts(thing.backward))
    elif isinstance(thing, type):
        yield [base.__name__ for base in thing.__bases__]
        for name, value in sorted(vars(thing).items()):
            value = getattr(value, "fget", getattr(value, "func", value))  # of properties
            if isinstance(value, FunctionType):
                if not (is_dataclass(thing) and name.startswith("__")):  # made by `dataclass`
                    yield from _parts(value)
            elif not name.startswith("__") and isinstance(value, (int, float, str)):
                yield name, value
    else:
        try:
            yield _source(thing)
        except (AttributeError, KeyError, SyntaxError, TypeError):
            yield repr(thing)  # not from a file: certainly not the original


@cache
def _source(function: FunctionType) -> Any:
    code = function.__code__  # of the function itself: `inspect` goes through a wrapper to what it wraps
    linecache.checkcache(code.co_filename)
    text = "".join(linecache.getlines(code.co_filename))
    return _tree(_functions(text)[code.co_name, code.co_firstlineno])


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
