"""The stand-in is as strict as CuPy, and as late as a card."""

import json
import re

import numpy as np
import pytest

from tests.standin import kernels
from tests.standin.cublas import tf32
from tests.standin.cupy import NAMES, Array, CUDARuntimeError, make
from tests.standin.make_names import names

needs_compiler = pytest.mark.skipif(kernels.COMPILER is None, reason="no C compiler")
SOURCE = """
__global__ void fill(float *x, int count, float value) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = value;
}
__global__ void turn(float *x) {
    __shared__ float shared[64];
    shared[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}
__global__ void leave(float *x) {
    if (threadIdx.x) __syncthreads();
}
__global__ void overwrite(float *x) {
    *x = blockIdx.y * gridDim.x + blockIdx.x;
}
__global__ void race(float *x, int barrier) {
    float next = x[(threadIdx.x + 1) % blockDim.x];
    if (barrier) __syncthreads();
    x[threadIdx.x] = next;
}
"""


@pytest.fixture
def cupy():
    return make()[0]


def test_the_list_of_names_matches_the_installed_cupy():
    real = pytest.importorskip("cupy")
    if real.__version__ != NAMES["cupy"]:
        pytest.skip(f"the list is for CuPy {NAMES['cupy']}, but {real.__version__} is installed")
    found = json.loads(json.dumps(names(real)))
    for key, numpys in (("functions", np), ("methods", np.ndarray)):
        # NumPy 2.5 dropped some of them, and newer ones might have more.
        assert {name: found[key].get(name) for name in NAMES[key]} == {
            name: parameters if hasattr(numpys, name) else None for name, parameters in NAMES[key].items()
        }


def test_arrays_do_not_become_numpys_by_themselves(cupy):
    x = cupy.ones(3)
    for convert in (np.asarray, np.array, np.sum, np.exp, lambda a: np.concatenate([a, a])):
        with pytest.raises(TypeError):
            convert(x)
    with pytest.raises(TypeError):
        x + np.ones(3)
    with pytest.raises(TypeError):
        np.ones(3) * x
    with pytest.raises(TypeError):
        x[np.array([0])]
    assert (cupy.asnumpy(x * 2 + x) == 3).all() and float(x.sum()) == 3


def test_only_names_and_keywords_of_cupy_are_there(cupy):
    with pytest.raises(AttributeError):
        _ = cupy.busday_count  # NumPy has it
    with pytest.raises(AttributeError):
        _ = cupy.ones(3).newbyteorder
    with pytest.raises(TypeError, match="where"):
        cupy.add(cupy.ones(3), 1, where=True)
    with pytest.raises(TypeError, match="initial"):
        cupy.ones(3).sum(initial=1)


def test_reductions_are_arrays_without_axes(cupy):
    total = cupy.ones(3).sum()
    assert isinstance(total, Array) and total.shape == ()


def test_new_memory_is_not_zero(cupy):
    assert np.isnan(cupy.asnumpy(cupy.empty(3, cupy.float32))).all()


@needs_compiler
def test_work_on_a_stream_runs_when_the_program_waits_for_the_stream(cupy):
    stream, x = cupy.cuda.Stream(non_blocking=True), cupy.zeros(8, cupy.float32)
    fill = cupy.RawModule(code=SOURCE).get_function("fill")
    cupy.cuda.Stream.null.synchronize()
    with stream:
        fill((2,), (4,), (x, np.int32(7), np.float32(5)))
    assert not cupy.asnumpy(x).any()
    stream.synchronize()
    assert cupy.asnumpy(x).tolist() == [5] * 7 + [0]


@needs_compiler
@pytest.mark.parametrize("wait", ["cuda.Stream.null.synchronize", "cuda.Device().synchronize", "asnumpy"])
def test_a_stream_does_not_wait_for_the_null_stream(cupy, wait):
    stream, x = cupy.cuda.Stream(non_blocking=True), cupy.zeros(8, cupy.float32)
    fill = cupy.RawModule(code=SOURCE).get_function("fill")

    def later():
        with stream:
            fill((2,), (4,), (x, np.int32(7), np.float32(5)))

    values, zero = np.zeros(8, np.float32), np.float32(0)
    for early in (
        lambda: None, lambda: x + 1, lambda: x.set(values), lambda: x.__setitem__(0, 1), lambda: cupy.exp(x),
        lambda: x.sum(), lambda: fill((1,), (1,), (x, np.int32(1), zero)),
    ):  # fmt: skip
        early()
        with pytest.raises(AssertionError, match="might still be running"):
            later()
        {"cuda.Stream.null.synchronize": cupy.cuda.Stream.null.synchronize,
         "cuda.Device().synchronize": cupy.cuda.Device().synchronize,
         "asnumpy": lambda: cupy.asnumpy(x)}[wait]()  # fmt: skip
        later()


@needs_compiler
def test_a_captured_graph_runs_when_it_is_launched_and_again(cupy):
    stream, x = cupy.cuda.Stream(non_blocking=True), cupy.zeros(4, cupy.float32)
    fill = cupy.RawModule(code=SOURCE).get_function("fill")
    with stream:
        stream.begin_capture()
        fill((1,), (4,), (x, np.int32(4), np.float32(1)))
        for forbidden in (
            lambda: cupy.asnumpy(x), lambda: cupy.zeros(3), lambda: float(x[0]),
            lambda: x + x, lambda: -x, lambda: cupy.exp(x), lambda: x.sum(), lambda: x.copy(),
        ):  # fmt: skip
            with pytest.raises(CUDARuntimeError):
                forbidden()
        graph = stream.end_capture()
    stream.synchronize()
    assert not cupy.asnumpy(x).any()
    for _ in range(2):
        x.set(np.zeros(4, np.float32))
        cupy.cuda.Stream.null.synchronize()
        graph.launch(stream)
        stream.synchronize()
        assert (cupy.asnumpy(x) == 1).all()


def two_streams(cupy):
    """Two streams; a function that makes a stream write four numbers into an array; one that makes a stream
    wait for another by an event; and two arrays of zeros."""
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    fill, event = cupy.RawModule(code=SOURCE).get_function("fill"), cupy.cuda.Event(disable_timing=True)

    def write(stream, x, value):
        with stream:
            fill((1,), (4,), (x, np.int32(4), np.float32(value)))

    def follow(later, earlier):
        event.record(earlier)
        later.wait_event(event)

    arrays = cupy.zeros(4, cupy.float32), cupy.zeros(4, cupy.float32)
    cupy.cuda.Stream.null.synchronize()
    return (*streams, write, follow, *arrays)


@needs_compiler
@pytest.mark.parametrize("capture", [False, True])
def test_two_streams_use_the_same_memory_only_with_an_event_between_them(cupy, capture):
    one, other, write, follow, x, y = two_streams(cupy)
    if capture:
        one.begin_capture()
    follow(other, one)
    write(one, x, 1)
    write(other, y, 2)
    with pytest.raises(AssertionError, match="in no fixed order"):
        write(other, x, 2)
    follow(other, one)
    write(other, x, 3)
    with pytest.raises(AssertionError, match="in no fixed order"):
        write(one, y, 1)
    follow(one, other)
    write(one, y, 4)
    if capture:
        one.end_capture().launch(one)
    one.synchronize()
    assert cupy.asnumpy(x).tolist() == [3] * 4 and cupy.asnumpy(y).tolist() == [4] * 4


@needs_compiler
def test_a_stream_runs_only_the_work_that_another_waits_for(cupy):
    one, other, write, follow, x, y = two_streams(cupy)
    write(other, x, 1)
    event = other.record()
    write(other, y, 2)
    one.wait_event(event)
    one.synchronize()
    assert cupy.asnumpy(x).tolist() == [1] * 4 and not cupy.asnumpy(y).any()


@needs_compiler
def test_a_capture_ends_only_when_all_streams_have_joined(cupy):
    one, other, write, follow, x, _ = two_streams(cupy)
    before = other.record()
    one.begin_capture()
    with pytest.raises(CUDARuntimeError, match="Isolation"):
        one.wait_event(before)
    with pytest.raises(CUDARuntimeError, match="Unsupported"):
        write(other, x, 1)
    follow(other, one)
    write(other, x, 1)
    with pytest.raises(CUDARuntimeError, match="Unjoined"):
        one.end_capture()


@needs_compiler
def test_writing_past_an_array_is_noticed(cupy):
    x = cupy.zeros(4, cupy.float32)
    cupy.RawModule(code=SOURCE).get_function("fill")((2,), (4,), (x, np.int32(5), np.float32(1)))
    with pytest.raises(AssertionError, match="out of bounds"):
        cupy.cuda.Stream.null.synchronize()


@needs_compiler
def test_threads_meet_at_barriers(cupy):
    x = cupy.asarray(np.arange(64, dtype=np.float32))
    module = cupy.RawModule(code=SOURCE)
    module.get_function("turn")((1,), (64,), (x,))
    assert (cupy.asnumpy(x) == np.arange(64)[::-1]).all()
    with pytest.raises(AssertionError, match="barrier"):
        module.get_function("leave")((1,), (64,), (x,))


@needs_compiler
@pytest.mark.parametrize("barrier", [0, 1])
def test_a_missing_barrier_shows_when_the_last_threads_run_first(cupy, monkeypatch, barrier):
    race, found = cupy.RawModule(code=SOURCE).get_function("race"), []
    for backwards in (False, True):
        monkeypatch.setattr(kernels, "BACKWARDS", backwards)
        x = cupy.asarray(np.arange(8, dtype=np.float32))
        race((1,), (8,), (x, np.int32(barrier)))
        found.append(cupy.asnumpy(x).tolist())
    assert (found[0] == found[1]) == bool(barrier)
    assert not barrier or found[0] == [1, 2, 3, 4, 5, 6, 7, 0]


@needs_compiler
def test_the_last_blocks_can_also_run_first(cupy, monkeypatch):
    fill, found = cupy.RawModule(code=SOURCE).get_function("overwrite"), []
    for backwards in (False, True):
        monkeypatch.setattr(kernels, "BACKWARDS", backwards)
        x = cupy.zeros(1, cupy.float32)
        fill((2, 3), (1,), (x,))
        found.append(float(x[0]))
    assert found == [5, 0]


@needs_compiler
@pytest.mark.parametrize("wrong", [(5, np.float32(1)), (np.int64(4), np.float32(1)), (np.int32(4),)])
def test_arguments_of_another_size_or_number_are_refused(cupy, wrong):
    fill = cupy.RawModule(code=SOURCE).get_function("fill")
    with pytest.raises(AssertionError):
        fill((1,), (4,), (cupy.zeros(4, cupy.float32), *wrong))


def test_tf32_keeps_ten_bits():
    x = np.array([1 + 2**-10, 1 + 2**-12, 1 + 3 * 2**-12, -3.0, 0.0], np.float32)
    assert tf32(x).tolist() == [1 + 2**-10, 1, 1 + 2**-10, -3, 0]


def test_products_beyond_an_array_are_noticed():
    cupy, _, own = make()
    x = cupy.zeros(4, cupy.float32)
    assert own.owns(x.data.ptr, 16) and not own.owns(x.data.ptr, 20) and not own.owns(x.data.ptr - 4, 8)


def test_streams_graphs_and_modules_of_the_installed_cupy_have_what_the_stand_in_has():
    real, ours = pytest.importorskip("cupy"), make()[0]
    kinds = ((getattr(ours.cuda, name), getattr(real.cuda, name)) for name in ("Stream", "Event", "Graph"))
    for kind, theirs in kinds:
        for name in vars(kind).keys() | vars(kind.__mro__[1]).keys():
            if not name.startswith("_") and name not in ("card", "graph", "works", "waited"):
                assert hasattr(theirs, name) or name == "ptr", (kind, name)
    assert {"code", "options", "backend"} <= set(re.findall(r"(\w+)=", real.RawModule.__doc__.split("\n")[0]))
    assert "set(self, arr, stream=None)" in real.ndarray.set.__doc__
    assert "launch(self, stream=None)" in real.cuda.Graph.launch.__doc__
    for name in ("driverGetVersion", "runtimeGetVersion", "getDeviceProperties", "CUDARuntimeError"):
        assert hasattr(real.cuda.runtime, name) and hasattr(ours.cuda.runtime, name)
    try:
        _ = real.cuda.cublas, real.cuda.nvrtc
    except ImportError as problem:
        pytest.skip(f"the CUDA toolkit is not installed: {problem}".splitlines()[0])
    for cuda in (real.cuda, ours.cuda):
        assert callable(cuda.cublas.getVersion) and callable(cuda.get_cublas_handle)
        assert len(cuda.nvrtc.getVersion()) == 2
