"""A strict stand-in for CuPy on a machine without a GPU. It computes with NumPy and behaves like CuPy.

It allows only functions, methods and keywords that CuPy has (``names.json``), never turns its arrays
into NumPy's unless asked, and fills new memory with NaN. Work on a stream other than the null stream
runs late, when the program waits for the stream. It must not start before the program has waited for the
null stream, because the streams do not wait for each other. Only events order them: memory that one stream
writes, another may use only after an event (`Order`). While a stream captures, its work and that of streams
that wait for it goes into the graph. The stand-in then refuses what a real capture forbids, and new memory,
which CuPy would reuse afterwards. It also checks that no one writes around arrays.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.standin import kernels
from tests.standin.cublas import Cublas
from tinygan.cuda import blas

NAMES = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
DTYPES = (
    "float32", "float64", "int32", "int64", "uint8", "uint64", "bool_", "float16", "newaxis", "pi", "inf"
)  # fmt: skip
VIEWS = ("reshape", "transpose", "view", "squeeze", "swapaxes")  # methods that allocate no memory
GUARD, PATTERN = 256, 0xA5
Uses = Sequence[tuple[int, int, bool]]  # of memory: start, end, whether it is written


class CUDARuntimeError(RuntimeError):
    """As `cupy.cuda.runtime.CUDARuntimeError`."""


class OutOfMemoryError(MemoryError):
    """As `cupy.cuda.memory.OutOfMemoryError`."""


class Order:
    """The order of work on several streams, given by events, and the memory that each work used."""

    def __init__(self) -> None:
        self.count: dict[int, int] = {}  # by stream: how many works it has
        self.seen: dict[int, dict[int, int]] = {}  # by stream: how many of each stream's come before its next
        self.used: dict[tuple[int, bool, int, int], int] = {}  # (stream, written, start, end): number of work

    def add(self, stream: int, used: Uses) -> None:
        """Add a work to a stream. It uses memory: (start, end, whether it is written).

        Raises: AssertionError if another stream uses the same memory and no event orders them.
        """
        number = self.count[stream] = self.count.get(stream, 0) + 1
        seen = self.seen.setdefault(stream, {})
        for start, end, written in used:
            for (other, by_other, first, last), when in self.used.items():
                clash = (written or by_other) and start < last and first < end
                apart = other == stream or not clash or seen.get(other, 0) >= when
                assert apart, "two streams use the same memory in no fixed order"
            self.used[stream, written, start, end] = number

    def now(self, stream: int) -> dict[int, int]:
        """The work that comes before an event recorded now."""
        return {**self.seen.get(stream, {}), stream: self.count.get(stream, 0)}

    def after(self, stream: int, before: dict[int, int]) -> None:
        """From now on the work of a stream comes after `before`."""
        seen = self.seen.setdefault(stream, {})
        seen |= {other: max(when, seen.get(other, 0)) for other, when in before.items()}


class Card:
    """The device: streams with waiting work, the current capture, the allocated memory."""

    def __init__(self) -> None:
        self.queues: dict[int, list[Callable[[], None]]] = {0: []}
        self.capturing: Stream | None = None
        self.order = Order()  # of work outside of captures
        self.done: dict[int, int] = {}  # by stream: how many works have run
        self.current: list[Stream] = []
        self.memory: weakref.WeakSet[Any] = weakref.WeakSet()
        self.unsettled = False  # whether work on the null stream might still be running
        self.cublas: Any = None
        self.copies = 0  # to the host
        self.taken = 0  # bytes allocated so far, freed ones included
        self.limit: int | None = None  # the largest possible `taken`
        self.fails_after: int | None = None  # how many kernels and products run before the card fails

    def enqueue(self, stream: int, work: Callable[[], None], used: Uses = ()) -> None:
        if self.capturing:
            if stream not in self.capturing.joined:
                raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted")
            self.capturing.order.add(stream, used)
            self.capturing.graph.append((work, used))
        elif stream:
            assert not self.unsettled, "work on the null stream might still be running"
            self.order.add(stream, used)
            self.queues[stream].append(work)
        else:
            self.unsettled = True
            work()

    def at_once(self) -> None:
        """Note that the current stream computes or copies something now. Refused during a capture."""
        self.refuse_capture()
        self.unsettled = self.unsettled or not self.stream

    def wait(self, stream: int) -> None:
        self.refuse_capture()
        self.unsettled = self.unsettled and stream != 0
        self.run(stream)
        for block in self.memory:
            block.check()
        done = self.order.now(stream)  # comes before all later work
        for other in self.queues:
            self.order.after(other, done)

    def run(self, stream: int, until: int | None = None) -> None:
        """Run the waiting work of a stream, up to a number of works, and what it waits for on others."""
        queue = self.queues[stream]
        while queue and (until is None or self.done.get(stream, 0) < until):
            self.done[stream] = self.done.get(stream, 0) + 1
            each = queue.pop(0)
            if self.fails_after is not None:
                self.fails_after -= 1
                if self.fails_after < 0:
                    queue.clear()
                    raise CUDARuntimeError(
                        "cudaErrorIllegalAddress: an illegal memory access was encountered"
                    )
            each()

    def owns(self, address: int, size: int) -> bool:
        """Whether these bytes are inside one allocated array."""
        return any(
            start <= address and address + size <= start + block.size
            for block in self.memory
            for start in [block.raw.ctypes.data + block.start]
        )

    def busy(self, stream: int) -> bool:
        """Whether a stream has waiting work."""
        return bool(self.queues.get(stream))

    def refuse_capture(self) -> None:
        if self.capturing:
            raise CUDARuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted")

    @property
    def stream(self) -> int:
        return self.current[-1].ptr if self.current else 0


class Block:
    """Memory with a border on both sides that must not be written to."""

    def __init__(self, size: int) -> None:
        raw = np.full(size + 3 * GUARD, PATTERN, np.uint8)
        self.start = GUARD + -(raw.ctypes.data + GUARD) % GUARD  # aligned, as the card's memory is
        self.raw, self.size = raw, size

    def check(self) -> None:
        after = self.raw[self.start + self.size :]
        assert (self.raw[: self.start] == PATTERN).all() and (after == PATTERN).all(), "written out of bounds"

    def array(self, shape: Any, dtype: Any) -> np.ndarray:
        return self.raw[self.start : self.start + self.size].view(dtype).reshape(shape)


class Stream:
    """As `cupy.cuda.Stream`."""

    card: Card
    null: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False, ptds: bool = False) -> None:
        self.ptr = 0 if null else 0x100 * (1 + len(self.card.queues))
        self.card.queues.setdefault(self.ptr, [])

    def __enter__(self) -> Stream:
        self.card.current.append(self)
        return self

    def __exit__(self, *problem: Any) -> None:
        self.card.current.pop()

    def synchronize(self) -> None:
        self.card.wait(self.ptr)

    def record(self, event: Event | None = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        event.waited(self)

    def begin_capture(self, mode: int | None = None) -> None:
        assert self.ptr and not self.card.capturing
        self.card.capturing = self
        self.graph: list[tuple[Callable[[], None], Uses]] = []
        self.order, self.joined = Order(), {self.ptr}

    def end_capture(self) -> Graph:
        assert self.card.capturing is self
        self.card.capturing = None
        done = self.order.now(self.ptr)
        if any(done.get(stream, 0) < count for stream, count in self.order.count.items()):
            raise CUDARuntimeError("cudaErrorStreamCaptureUnjoined: capturing stream has unjoined work")
        return Graph(self.card, self.graph)


class Event:
    """As `cupy.cuda.Event`."""

    card: Card

    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False) -> None:
        self.place: tuple[Any, int, dict[int, int], int] | None = None  # capture, stream, work before it

    def record(self, stream: Stream | None = None) -> None:
        at, capture = stream.ptr if stream else self.card.stream, self.card.capturing
        order = capture.order if capture else self.card.order
        self.place = capture, at, order.now(at), self.card.done.get(at, 0) + len(self.card.queues[at])

    def synchronize(self) -> None:
        if self.place:
            self.card.wait(self.place[1])

    def waited(self, stream: Stream) -> None:
        """Make the stream wait for the work before the event."""
        if self.place is None:
            return
        capture, at, before, until = self.place
        if capture is not self.card.capturing:
            raise CUDARuntimeError("cudaErrorStreamCaptureIsolation: dependency created on uncaptured work")
        if capture:
            capture.joined.add(stream.ptr)
            capture.order.after(stream.ptr, before)
        else:
            self.card.order.after(stream.ptr, before)
            self.card.queues[stream.ptr].append(lambda: self.card.run(at, until))


class Graph:
    """As `cupy.cuda.Graph`."""

    def __init__(self, card: Card, works: list[tuple[Callable[[], None], Uses]]) -> None:
        self.card, self.works = card, works

    def launch(self, stream: Stream | None = None) -> None:
        for work, used in self.works:
            self.card.enqueue(stream.ptr if stream else self.card.stream, work, used)


def strict(name: str, allowed: list[str], keywords: dict[str, Any]) -> None:
    for keyword in keywords:
        if keyword not in allowed:
            raise TypeError(f"CuPy's {name} has no parameter {keyword!r}")


class Array:
    """As `cupy.ndarray`."""

    watch: Block  # the memory that was allocated for it
    __array_ufunc__ = None  # NumPy's functions and arrays refuse it
    __module__ = "cupy"
    card: Card

    def __init__(self, numpy: np.ndarray) -> None:
        self._numpy = numpy

    def __array__(self, *arguments: Any, **keywords: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_function__(self, function: Any, *rest: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} on a CuPy array: use xp.{function.__name__}")

    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "dtype", "ndim", "size", "itemsize", "strides", "nbytes", "flags"):
            return getattr(self._numpy, name)
        if name == "T":
            return wrapped(self, self._numpy.T)
        if name == "data":
            return SimpleNamespace(ptr=self._numpy.ctypes.data, memset_async=self._memset_async)
        if name not in NAMES["methods"]:
            raise AttributeError(f"CuPy's arrays have no {name!r}")

        def method(*arguments: Any, **keywords: Any) -> Any:
            strict(f"ndarray.{name}", NAMES["methods"][name], keywords)
            if name not in VIEWS:
                self.card.at_once()
            return wrapped(self, getattr(self._numpy, name)(*map(unwrapped, arguments), **raw(keywords)))

        return method

    def _memset_async(self, value: int, size: int, stream: Stream) -> None:
        """As `cupy.cuda.MemoryPointer.memset_async`, for a whole array of bytes."""
        at = self._numpy.ctypes.data
        self.card.enqueue(stream.ptr, lambda: self._numpy.fill(value), [(at, at + size, True)])

    def get(self) -> np.ndarray:
        self.card.wait(self.card.stream)
        self.card.copies += 1
        return self._numpy.copy()

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        self.card.refuse_capture()
        assert type(arr) is np.ndarray and arr.dtype == self.dtype and arr.shape == self.shape
        source = weakref.ref(arr)  # the copy runs later and does not keep the array alive

        def work() -> None:
            values = source()
            assert values is not None, "copied from freed memory"
            np.copyto(self._numpy, values)

        self.card.enqueue(stream.ptr if stream else self.card.stream, work)

    def __len__(self) -> int:
        return len(self._numpy)

    def __getitem__(self, key: Any) -> Any:
        return wrapped(self, self._numpy[unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.card.at_once()
        self._numpy[unwrapped(key)] = unwrapped(value)

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())


def unwrapped(value: Any) -> Any:
    """The NumPy array inside, also in tuples and lists. A NumPy array that was not moved is refused."""
    if isinstance(value, Array):
        return value._numpy
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrapped, value))
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return value


def raw(keywords: dict[str, Any]) -> dict[str, Any]:
    return {name: unwrapped(value) for name, value in keywords.items()}


def wrapped(like: Any, value: Any) -> Any:
    """Results as CuPy returns them: arrays, with shape () where NumPy has scalars; views keep the watch."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    result = Array(np.asarray(value))
    if isinstance(like, Array) and "watch" in vars(like) and np.may_share_memory(like._numpy, result._numpy):
        result.watch = like.watch
    return result


def operator(name: str) -> Callable[..., Any]:
    def operate(self: Array, *others: Any) -> Any:
        if any(isinstance(other, np.ndarray) for other in others):
            return NotImplemented
        self.card.at_once()
        result = getattr(self._numpy, name)(*map(unwrapped, others))
        if result is NotImplemented:
            return result
        return self if name.startswith("__i") and name != "__invert__" else Array(np.asarray(result))

    return operate


for _name in ("add", "sub", "mul", "truediv", "pow", "matmul", "floordiv", "mod", "and", "or", "xor"):
    for _side in ("", "r", "i"):
        setattr(Array, f"__{_side}{_name}__", operator(f"__{_side}{_name}__"))
for _name in ("neg", "abs", "lt", "le", "gt", "ge", "eq", "ne", "invert"):
    setattr(Array, f"__{_name}__", operator(f"__{_name}__"))


class Kernel:
    """As the result of `cupy.RawModule.get_function`."""

    def __init__(self, card: Card, module: RawModule, name: str) -> None:
        self.card, self.module, self.name = card, module, name

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
        values = [value._numpy.ctypes.data if isinstance(value, Array) else value for value in args]
        kinds = kernels.compiled(self.module.code, self.module.options)[1][self.name]
        used = [
            (value._numpy.ctypes.data, value._numpy.ctypes.data + value.nbytes, "const" not in kind)
            for value, kind in zip(args, kinds, strict=False) if isinstance(value, Array)
        ]  # fmt: skip

        def work(held: Any = args) -> None:  # keeps the arrays alive until it has run
            kernels.launch(self.module.code, self.module.options, self.name, grid, block, values)

        self.card.enqueue(self.card.stream, work, used)


class RawModule:
    """As `cupy.RawModule`, for source code."""

    card: Card

    def __init__(
        self, code: str | None = None, *, options: tuple[str, ...] = (), backend: str = "nvrtc"
    ) -> None:
        assert code and all(option.startswith("-D") for option in options)
        self.code, self.options = code, options

    def get_function(self, name: str) -> Kernel:
        assert name in kernels.compiled(self.code, self.options)[1], f"no kernel {name}"
        return Kernel(self.card, self, name)


def functions(card: Card, array: type[Array]) -> dict[str, Any]:
    """The functions that make and move arrays, and by name NumPy's, if CuPy has them."""

    def fresh(shape: Any, dtype: Any, order: str = "C") -> Array:
        card.at_once()
        dtype = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        block = Block(int(np.prod(shape)) * dtype.itemsize)
        card.memory.add(block)
        card.taken += block.size
        if card.limit is not None and card.taken > card.limit:
            raise OutOfMemoryError(f"Out of memory allocating {block.size} bytes (allocated so far: ...).")
        numpy = block.array(shape, dtype)
        if dtype.kind == "f":
            numpy[...] = np.nan
        result = array(numpy)
        result.watch = block
        return result

    def zeros(shape: Any, dtype: Any = float, order: str = "C") -> Array:
        result = fresh(shape, dtype, order)
        result._numpy[...] = 0
        return result

    def asarray(
        a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
    ) -> Array:
        if isinstance(a, Array):
            return a if dtype in (None, a.dtype) else array(a._numpy.astype(dtype))
        numpy = np.asarray(a, dtype)
        result = fresh(numpy.shape, numpy.dtype)
        result._numpy[...] = numpy
        return result

    def asnumpy(
        a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
    ) -> Any:
        card.wait(stream.ptr if stream else card.stream)
        card.copies += 1
        return unwrapped(a).copy() if isinstance(a, Array) else np.asarray(a)

    def ask(name: str) -> Any:
        if name in DTYPES:
            return getattr(np, name)
        if name not in NAMES["functions"]:
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")

        def function(*arguments: Any, **keywords: Any) -> Any:
            strict(name, NAMES["functions"][name], keywords)
            card.at_once()
            return wrapped(None, getattr(np, name)(*map(unwrapped, arguments), **raw(keywords)))

        return function

    return {"empty": fresh, "zeros": zeros, "asarray": asarray, "asnumpy": asnumpy, "__getattr__": ask}


def cuda(card: Card) -> SimpleNamespace:
    """As `cupy.cuda`."""
    stream = type("Stream", (Stream,), {"card": card})
    null = stream.null = stream(null=True)
    Event.card = card
    device = SimpleNamespace(
        synchronize=lambda: [card.wait(queue) for queue in card.queues], compute_capability="90", id=0,
        use=lambda: None,
    )  # fmt: skip

    def device_of(device_number: Any = None) -> Any:
        assert device_number in (None, 0), "there is one card"
        return device

    return SimpleNamespace(
        Stream=stream, Event=Event, Graph=Graph, Device=device_of,
        get_current_stream=lambda device_id=-1: card.current[-1] if card.current else null,
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 12090,
            getDeviceProperties=lambda device: {"name": b"Stand-in"}, getDeviceCount=lambda: 1,
            memGetInfo=lambda: (10**11 - card.taken, 10**11),
        ),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        get_elapsed_time=lambda start, end: 1.0,  # ms: it does not imitate a card's speed
        get_cublas_handle=lambda: 0x2000,
        cublas=SimpleNamespace(getVersion=lambda handle: 131000),
        nvrtc=SimpleNamespace(getVersion=lambda: (13, 5)),
    )  # fmt: skip


def make() -> tuple[ModuleType, Card, Cublas]:
    """The module, its card, and cuBLAS on that card."""
    card = Card()
    array = type("ndarray", (Array,), {"card": card, "__module__": "cupy"})
    Array.card = card  # results of operators are plain Arrays
    module = ModuleType("cupy")
    pool = SimpleNamespace(total_bytes=lambda: card.taken, free_all_blocks=lambda: None)
    module.__dict__.update(
        functions(card, array), __version__="14.2.0", ndarray=array, is_available=lambda: True,
        RawModule=type("RawModule", (RawModule,), {"card": card}), get_default_memory_pool=lambda: pool,
        cuda=cuda(card),
    )  # fmt: skip
    card.cublas = Cublas(blas.SIGNATURES, card.enqueue, card.owns, card.busy)
    return module, card, card.cublas
