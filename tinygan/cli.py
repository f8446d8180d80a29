"""What all commands share: a parser that complains in one line, and errors turned into exit codes."""

import argparse
import errno
import io
import os
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from tinygan import backend, errors, gpu_errors, machine
from tinygan.errors import UNFINISHED, CheckpointError, TinyganError, UsageError, meant, printable, put
from tinygan.runs.config import versions
from tinygan.runs.settings import device

Arguments: TypeAlias = "str | bytes | Iterable[object]"  # a command line, or its words: text, numbers, paths


def seed(text: str) -> int:
    """A seed from its text. Raises ValueError if it is not a whole number, UsageError if less than 0."""
    number = int(text)
    if number < 0:
        raise UsageError(f"--seed {number} is less than 0.")
    return number


def path(text: str) -> Path:
    """A path from its text, as `filled`."""
    if text == "-":
        raise argparse.ArgumentTypeError("nothing is written to the standard output: name a file or folder")
    return Path(errors.filled(text))


PRINTS: dict[str, Any] = {"action": "store_true", "default": argparse.SUPPRESS}
# What commands that train nothing share.
OF_A_RUN = ("run", "--runs")
OPTIONS: dict[str, dict[str, Any]] = {
    "run": {"nargs": "?", "metavar": "RUN|FILE", "help": "a run or a checkpoint (default: the newest run)"},
    "--runs": {"type": path, "default": Path("runs"), "metavar": "DIR",
               "help": "folder of runs (default: runs)"},
    "--device": {"type": device, "choices": backend.DEVICES, "default": "auto", "metavar": "NAME",
                 "help": "auto (a GPU if usable), cpu or gpu (default: auto)"},
    "--engine": {"choices": backend.ENGINES, "default": "auto", "metavar": "NAME",
                 "help": "auto (fast), fast, or readable, the code in ops/ (default: auto)"},
    "--data-dir": {"type": path, "metavar": "DIR",
                   "help": "where fashion-mnist/ is (default: the run's folder)"},
    "--out": {"type": path, "metavar": "PATH",
              "help": "file or folder to write (default: in the run's folder)"},
    # By default not the noise of any picture that the training shows.
    "--seed": {"type": seed, "metavar": "N", "help": "seed of the noise (default: the run's seed plus 1)"},
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UsageError`s, and that takes no abbreviated options."""

    def __init__(self, module: str, purpose: str, *shared: str, **examples: str) -> None:
        """`shared`: names in `OPTIONS`. `examples`: arguments, and what they do."""
        name, space = f"python -m {module}", max(map(len, examples), default=0)
        lines = [f"  {name} {words:<{space}}  # {does}" for words, does in examples.items()]
        super().__init__(
            prog=name, usage=f"{name} {'[RUN|FILE] ' * ('run' in shared)}[options]", allow_abbrev=False,
            description="\n".join([purpose, *["\nexamples:"] * bool(lines), *lines]),
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=24),
        )  # fmt: skip
        self.more: dict[argparse.Action, str | None] = {}  # options that only --help-all explains
        self.add_argument("--version", help="print the versions of all libraries and exit", **PRINTS)
        for option in shared:
            self.add_argument(option, **OPTIONS[option])

    def shorten(self, groups: Iterable[Any]) -> None:
        """Let ``--help`` only name the options of `groups`, which ``--help-all`` explains."""
        self.add_argument("--help-all", help="explain all options and exit", **PRINTS)
        for action in (action for group in groups for action in group._group_actions):
            self.more[action], action.help = action.help, argparse.SUPPRESS
        names = " ".join(action.option_strings[0] for action in self.more)
        self.epilog = textwrap.fill(f"--help-all also explains: {names}", 80, break_on_hyphens=False)

    def format_help(self) -> str:
        self._action_groups.sort(key=lambda group: group is self._optionals)  # --help, --version last
        return super().format_help()

    def parse(self, arguments: Arguments) -> argparse.Namespace:
        """The options in `arguments`; exits after it has printed what they ask for. Raises: UsageError."""
        options = self.parse_args(words(arguments))
        if "version" in options:
            for name, version in versions().items():
                print(f"{name:<9} {version}")
            self.exit()
        if "help_all" in options:
            self.epilog = None
            for action, text in self.more.items():
                action.help = text
            self.print_help()
            self.exit()
        return options

    def error(self, message: str) -> NoReturn:
        near = ""
        if unknown := re.match(r"unrecognized arguments: (\S+)|.*invalid choice: '(.*)' \((.*)\)", message):
            wrong, choice, choices = unknown.groups()
            known = re.findall(r"\w[\w-]*", choices) if choices else self._option_string_actions
            name, equals, value = (wrong or choice).partition("=")
            options = self._option_string_actions if name.startswith("--") else {}
            spoken = re.escape(name[2:].replace("-", " "))  # --learning-rate: the help of --lr speaks of it
            named = [one for one, how in options.items() if re.search(rf"\b{spoken}\b", how.help or "")]
            near = meant(name, known, equals + value) or meant("".join(named[:1]), named, equals + value)
            if wrong and not wrong.startswith("-") and "--data" in self._option_string_actions:
                near = f" Did you mean --data {wrong}?"
        help_ = errors.python(*self.prog.split()[1:], "--help")
        raise UsageError(f"{message}.{near} {help_} lists the options.")


def words(arguments: Arguments) -> list[str]:
    """The words of a command line; those of text as a shell would split it. Raises UsageError."""
    if not isinstance(arguments, str | bytes):
        paths = str, bytes, os.PathLike
        return [os.fsdecode(word) if isinstance(word, paths) else str(word) for word in arguments]
    arguments = os.fsdecode(arguments)
    lexer = shlex.shlex(arguments, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":
        lexer.escape = ""  # backslashes separate folders there
    try:
        return list(lexer)
    except ValueError as problem:
        raise UsageError(f"{arguments!r:.80}: {problem}. Close it, or pass a list of words.") from problem


def warn(line: str) -> None:
    """Print a line on stderr, beside the answer; a failure to print is ignored."""
    with suppress(OSError, ValueError):
        put(printable(line) + "\n", sys.stderr)


@contextmanager
def computing(device: str, engine: str = "auto") -> Iterator[backend.Backend]:
    """The device for a command that trains nothing, with its threads in use. Raises as `backend.choose`."""
    with backend.use_threads(backend.default_threads()[0]):
        yield backend.choose(device, engine, say=lambda line: None)


def ending(out: Path | None, *allowed: str) -> str:
    """The ending of the file `out`, like ``.png``; "" for a folder. Raises UsageError if not `allowed`."""
    if not out or os.path.isdir(out) or not re.fullmatch(r"\.[A-Za-z]\w*", out.suffix):
        return ""
    if out.suffix.lower() not in allowed:
        endings = " or ".join(allowed)
        raise UsageError(f"--out {out} does not end in {endings}. Choose another name, or a folder.")
    return out.suffix.lower()


def placed(out: Path | None, folder: Path, name: str) -> Path:
    """Where a command writes: the file `out`; `name` in the folder `out`, which is made; without `out`, in
    `folder`. Raises UsageError for another ending, CheckpointError where no folder can be made."""
    if out is None:
        return folder / name
    if ending(out, Path(name).suffix):
        return made(out.parent) / out.name
    return made(out) / name


def made(folder: Path) -> Path:
    """`folder`, which is made if it is not there. Raises CheckpointError."""
    with errors.failing(f"cannot make {folder}", "Use another --out."):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run `command` and return its exit code; an error becomes one line on stderr and its code, and Ctrl-C
    becomes `UNFINISHED`. Without `arguments` it is what this process was started for. Anything but a
    `TinyganError`, a full memory or a failing GPU is a bug and keeps its traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be Unicode
    if arguments is None:
        _prepare_process()
        arguments = sys.argv[1:]
    try:
        with gpu_errors.failures():
            code = command(arguments)
        put("", sys.stdout)  # a failure here can still be printed
        return _tell("", code)  # one of stderr would change the exit code
    except TinyganError as problem:
        return _tell(f"{problem.mark}{problem}", problem.exit_code)
    except KeyboardInterrupt:  # a training that has something to save catches it itself
        return _tell("interrupted before it was finished", UNFINISHED)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        return _tell("", 1)
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EIO):  # those that write files raise their own
            raise
        return _tell(f"error: cannot write the output: {problem.strerror}.", CheckpointError.exit_code)


def _prepare_process() -> None:
    """What a process that runs one command, and nothing else, needs."""
    # Where it was started as a file or in the package's folder, NVIDIA's `cuda` would be ours.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file would get its number, and what a library prints
            os.open(os.devnull, os.O_RDWR)
    machine.keep_memory()


def _tell(line: str, code: int) -> int:
    """Print the last line; where a stream has failed, as a terminal that has gone, do without."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, line and line + "\n")):
        try:
            put(text, stream)
        except OSError:
            with suppress(AttributeError, OSError):  # or the exit would try to flush it again
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # pyright: ignore[reportOptionalMemberAccess]
    return code
