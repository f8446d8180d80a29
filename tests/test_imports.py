"""The order of the packages: what may import what, read from the sources without running them."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import tinygan

FOLDER = Path(tinygan.__file__).parent
ROOT = FOLDER.parent

# From bottom to top. A file imports only from its own package and from lower entries: packages in the same
# tuple do not import each other. A single module can be listed like a package.
COMMANDS = ("train", "sample", "evaluate", "explain", "gradcheck", "report", "export")
PACKAGES = [
    ("errors",), ("gpu_errors", "files", "machine", "rng", "ranks", "ranks.alone"), ("arrays",),
    ("autograd",), ("ops",),
    ("fast", "ranks.twins"),  # twins of single ops
    ("layers",), ("models", "optim", "average", "fast.dcgan"), ("gan", "penalty"),
    ("fast.originals", "fast.optim", "fast.gan"), ("cuda",),  # twins of whole steps
    ("ranks.mpi",), ("backend", "step"), ("data",), ("runs",), ("views",), ("evaluation", "trained"),
    ("runs.loop",), ("runs.config",), ("cli",), COMMANDS, ("__main__",),
    ("",),  # tinygan/__init__.py, the public API
]  # fmt: skip
HEIGHT = {package: height for height, packages in enumerate(PACKAGES) for package in packages}
# Packages that need nothing but NumPy: all below `data`.
CORE = {package for packages in PACKAGES[: HEIGHT["data"]] for package in packages}
PATH = ("gan", "models", "layers", "autograd", "optim", "ops")  # the reading path


BY_NAME = ("import_module", "__import__")  # functions that import what a string names


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(FOLDER.rglob("*.py"))}


@cache
def imports(path: Path, module: str) -> frozenset[str]:
    """Every module a file imports, anywhere in it; ``from tinygan import models`` is `tinygan.models`.

    Calls of `import_module` and `__import__` count; their argument must be a constant.
    """
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                assert base != "importlib" or not alias.asname, f"{module}: {ast.unparse(node)}"
                full = f"{base}.{alias.name}"
                found.add(full if full in SOURCES else base)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
            name = node.args[0] if node.args else None
            assert isinstance(name, ast.Constant), f"{module}: {ast.unparse(node)}"
            found.add(name.value)
    return frozenset(found)


def own_imports(module: str) -> set[str]:
    found = {name for name in imports(SOURCES[module], module) if name.split(".")[0] == "tinygan"}
    nodes = ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8")))
    taken = {n.attr for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "tinygan"}
    # tinygan/__init__.py runs before all other files, so each may use its version.
    return found - {"tinygan"} if taken == {"__version__"} else found


def package(module: str) -> str:
    """The entry of PACKAGES that a module belongs to: its own name if listed, else its folder."""
    inside = module.partition(".")[2]
    while inside not in HEIGHT and "." in inside:
        inside = inside.rpartition(".")[0]
    return inside


@pytest.mark.parametrize("module", SOURCES)
def test_a_file_imports_only_from_its_package_and_lower_ones(module):
    own = package(module)
    assert own in HEIGHT, f"{module}: add it to PACKAGES"
    for name in own_imports(module):
        below = HEIGHT[package(name)] < HEIGHT[own]
        assert below or package(name) == own, f"{module} imports {name}, which is not below it"


def test_every_package_has_a_file():
    assert {package(module) for module in SOURCES} == set(HEIGHT)


def test_there_are_no_import_cycles():
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for name in own_imports(module) & set(SOURCES):
                visit(name, (*trail, module))
            done.add(module)

    for module in SOURCES:
        visit(module, ())


def test_ops_import_only_arrays_errors_autograd_and_each_other():
    for module in SOURCES:
        if package(module) == "ops":
            packages = {package(name) for name in own_imports(module)}
            assert packages <= {"errors", "arrays", "autograd", "ops"}, module
            text = SOURCES[module].read_text(encoding="utf-8")
            names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
            assert not {"numpy", "np", "cupy", "fast", "backend"} & names, module
            for name in imports(SOURCES[module], module):
                assert name.split(".")[0] not in ("numpy", "cupy"), f"{module} imports {name}"


def test_the_reading_path_imports_only_itself_arrays_errors_and_rng():
    files = [module for module in SOURCES if package(module) in PATH]
    assert len(files) == 5 + 7 + 1  # five files, the seven in ops, and its __init__
    for module in files:
        packages = {package(name) for name in own_imports(module)}  # not fast, backend, step or ranks
        assert packages <= {*PATH, "errors", "arrays", "rng"}, module
        text = SOURCES[module].read_text(encoding="utf-8")
        assert "import_module" not in text and "__import__" not in text, module
        # All imports are at the top of the file, where a reader sees them.
        tree = ast.parse(text)
        inside = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert all(n in tree.body for n in inside), module


def test_only_the_backend_cuda_and_the_ranks_import_cupy():
    for module, path in SOURCES.items():
        if package(module) not in ("backend", "cuda", "ranks.mpi"):
            packages = {name.split(".")[0] for name in imports(path, module)}
            assert not [name for name in packages if name.startswith(("cupy", "cuda"))], module


def test_the_reading_path_the_data_and_the_commands_do_not_import_fast():
    for module in SOURCES:
        own = package(module).partition(".")[0]
        if own not in ("fast", "cuda", "backend", "step", "runs", "evaluation", "views"):
            assert not any(name.startswith("tinygan.fast") for name in own_imports(module)), module


def test_cuda_is_imported_only_when_a_gpu_computes():
    for module, path in SOURCES.items():
        if package(module) != "cuda":
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ImportFrom):
                    names = [f"{node.module}.{alias.name}." for alias in node.names]
                    assert not [name for name in names if name.startswith("tinygan.cuda.")], module


def test_ranks_are_chosen_by_train_and_the_backend():
    """All other modules get their ranks as arguments."""
    for module in SOURCES:
        known = {name for name in own_imports(module) if package(name) == "ranks.mpi"}
        if known - {module}:
            assert package(module) in ("backend", "train"), module


def test_imports_by_name_are_followed(tmp_path):
    file = tmp_path / "it.py"
    file.write_text("importlib.import_module('tinygan.gan'), __import__('json')")
    assert imports(file, "it") == {"tinygan.gan", "json"}
    file = tmp_path / "unknown.py"
    file.write_text("name = 'json'; import_module(f'{name}.decoder')")
    with pytest.raises(AssertionError, match="unknown: import_module"):
        imports(file, "unknown")


def test_no_module_is_named_like_one_of_the_standard_library():
    """A command started by its path has its folder first on `sys.path` and would import tinygan's module."""
    taken = {module for module in SOURCES if module.rpartition(".")[2] in sys.stdlib_module_names}
    assert taken == set()


def test_the_core_imports_only_numpy_and_the_standard_library():
    allowed = {"tinygan", "numpy", "cupy", "cuda", "__future__"} | set(sys.stdlib_module_names)
    for module, path in SOURCES.items():
        if package(module) in CORE:
            more = {"mpi4py"} if package(module) == "ranks.mpi" else set()
            assert {name.split(".")[0] for name in imports(path, module)} <= allowed | more, module


def test_benchmarks_use_no_private_names_of_tinygan():
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                if name.split(".")[0] == "tinygan":
                    assert not [part for part in name.split(".") if part.startswith("_")], f"{path}: {name}"


def test_the_top_level_holds_only_what_belongs_there():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    top = {name.split("/")[0] for name in listing.stdout.split("\0") if name}
    allowed = {"tinygan", "benchmarks", "tests", "pyproject.toml", "LICENSE", "README.md"}
    assert {name for name in top - allowed if not name.startswith(".")} == set()


def in_fresh_python(code: str) -> str:
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_importing_tinygan_imports_nothing_unnecessary():
    code = "import sys, numpy; before = set(sys.modules); import tinygan; print(*(set(sys.modules) - before))"
    loaded = set(in_fresh_python(code).split())
    assert "tinygan.models" in loaded
    foreign = {n.split(".")[0] for n in loaded} - {"tinygan"} - set(sys.stdlib_module_names)
    assert foreign == set()
    assert not loaded & {"urllib.request", "http.client", "ssl", "asyncio", "sqlite3", "unittest", "tkinter"}
    later = ("fast", "backend", "step", "ranks.mpi", "data", "runs", "views", "cli")
    assert not [n for n in loaded if n.startswith(tuple(f"tinygan.{name}" for name in later))]


def test_the_modules_for_runs_are_imported_on_first_use():
    assert in_fresh_python("import tinygan; print(tinygan.load.__module__)") == "tinygan.trained"
    assert in_fresh_python("from tinygan import *; print(load.__name__)") == "load"
    with pytest.raises(AttributeError, match="'tinygan' has no attribute 'lode'"):
        _ = tinygan.lode  # pyright: ignore[reportAttributeAccessIssue]


def test_importing_tinygan_takes_less_than_three_tenths_of_a_second_more_than_numpy():
    # Processor time, which does not depend on other load.
    code = "import time, numpy; t = time.process_time(); import tinygan; print(time.process_time() - t)"
    assert min(float(in_fresh_python(code)) for _ in range(3)) < 0.3
