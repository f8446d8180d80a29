"""What all commands share: a parser with one-line errors, and the exit codes of errors."""

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
from tinygan.data.sources import NAMES
from tinygan.errors import UNFINISHED, CheckpointError, TinyganError, UsageError, meant, printable, put
from tinygan.runs.config import versions
from tinygan.runs.settings import DESCRIBED

Arguments: TypeAlias = "str | bytes | Iterable[object]"  # a command line, or its words: text, numbers, paths


def seed(text: str) -> int:
    """A seed from its text. Raises: ValueError if it is not a whole number; UsageError if it is negative."""
    number = int(text)
    if number < 0:
        raise UsageError(f"--seed {number} is less than 0.")
    return number


def path(text: str) -> Path:
    """A path from its text. Raises: ArgumentTypeError if it is empty or ``-``."""
    if text == "-":
        raise argparse.ArgumentTypeError("cannot write to the standard output: name a file or a folder")
    return Path(errors.filled(text))


def as_in_training(name: str) -> dict[str, Any]:
    """The option for a setting whose default is ``auto``."""
    how = DESCRIBED[name].metadata["option"]
    return how | {"default": "auto", "metavar": "NAME", "help": f"{how['help']} (default: auto)"}


# Options of the commands that work on a trained run.
OPTIONS: dict[str, dict[str, Any]] = {
    "run": dict(nargs="?", metavar="RUN|FILE", help="a run or a checkpoint (default: the newest run)"),
    "--runs": dict(type=path, default=Path("runs"), metavar="DIR", help="folder of runs (default: runs)"),
    "--device": as_in_training("device"),
    "--engine": as_in_training("engine"),
    "--data-dir": dict(type=path, metavar="DIR", help="where fashion-mnist/ is (default: as in training)"),
    "--out": dict(type=path, metavar="PATH", help="file or folder to write (default: in the run's folder)"),
    # By default not the noise of any picture that the training shows.
    "--seed": dict(type=seed, metavar="N", help="seed of the noise (default: the run's seed plus 1)"),
}


BARE: dict[str, Any] = {"nargs": 0, "default": argparse.SUPPRESS}  # options that only print


class Version(argparse.Action):
    """Print the versions of all libraries, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> NoReturn:
        for name, version in versions().items():
            print(f"{name:<9} {version}")
        parser.exit()


class HelpAll(argparse.Action):
    """Print the help of all options, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> NoReturn:
        assert isinstance(parser, Parser)
        parser.epilog = None
        for action, text in parser.more.items():
            action.help = text
        parser.print_help()
        parser.exit()


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UsageError`s, and that takes no abbreviated options."""

    def __init__(self, module: str, purpose: str, *shared: str, **examples: str) -> None:
        """`shared`: names in `OPTIONS`. `examples`: arguments, and what they do."""
        name, space = f"python -m {module}", max(map(len, examples), default=0)
        lines = [f"  {name} {words:<{space}}  # {does}" for words, does in examples.items()]
        super().__init__(
            prog=name, description="\n".join([purpose, *["\nexamples:"] * bool(lines), *lines]),
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=24),
            allow_abbrev=False,
        )  # fmt: skip
        self.more: dict[argparse.Action, str | None] = {}  # options that only --help-all explains
        what = "print the versions of all libraries and exit"
        self.add_argument("--version", action=Version, help=what, **BARE)
        for option in shared:
            self.add_argument(option, **OPTIONS[option])

    def shorten(self, groups: Iterable[Any]) -> None:
        """Let ``--help`` only name the options of `groups`, which ``--help-all`` explains."""
        self.add_argument("--help-all", action=HelpAll, help="explain all options and exit", **BARE)
        for group in groups:
            for action in group._group_actions:
                self.more[action], action.help = action.help, argparse.SUPPRESS
        names = " ".join(action.option_strings[0] for action in self.more)
        self.epilog = textwrap.fill(f"--help-all also explains: {names}", 80, break_on_hyphens=False)

    def format_help(self) -> str:
        operands = [
            {"?": "[{}] ", "*": "[{} ...] "}.get(str(one.nargs), "{} ").format(one.metavar or one.dest)
            for one in self._get_positional_actions()
        ]
        self.usage = f"{self.prog} {''.join(operands)}[options]"
        self._action_groups.sort(key=lambda group: group is self._optionals)  # --help, --version last
        return super().format_help()

    def parse(self, arguments: Arguments) -> argparse.Namespace:
        """The options in `arguments`. Raises: UsageError."""
        return self.parse_args(words(arguments))

    def error(self, message: str) -> NoReturn:
        near = ""
        if unknown := re.match(r"unrecognized arguments: (\S+)|.*invalid choice: '(.*)' \((.*)\)", message):
            wrong, choice, choices = unknown.groups()
            known = re.findall(r"\w[\w-]*", choices) if choices else self._option_string_actions
            name, equals, value = (wrong or choice).partition("=")
            options = self._option_string_actions if name.startswith("--") else {}
            spoken = re.escape(name[2:].replace("-", " "))  # --learning-rate: the help of --lr speaks of it
            helps = {one: self.more.get(how, how.help) or "" for one, how in options.items()}
            named = [one for one, text in helps.items() if re.search(rf"\b{spoken}\b", text)]
            near = meant(name, known, equals + value) or meant("".join(named[:1]), named, equals + value)
            if wrong and (wrong in NAMES or os.path.exists(wrong)) and "--data" in known:
                near = f" Did you mean --data {wrong}?"
        help_ = errors.python(*self.prog.split()[1:], "--help")
        raise UsageError(f"{message}.{near} {help_} lists the options.")


def words(arguments: Arguments) -> list[str]:
    """The words of a command line; text is split as in a shell. Raises: UsageError if a quote is open."""
    if not isinstance(arguments, str | bytes):
        paths = str, bytes, os.PathLike
        return [os.fsdecode(word) if isinstance(word, paths) else str(word) for word in arguments]
    arguments = os.fsdecode(arguments)
    lexer = shlex.shlex(arguments, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":
        lexer.escape = ""  # on Windows a backslash separates folders
    try:
        return list(lexer)
    except ValueError as problem:
        raise UsageError(f"{arguments!r:.80}: {problem}. Close it, or pass a list of words.") from problem


def warn(line: str) -> None:
    """Print a line on stderr. A failure to print is ignored."""
    with suppress(OSError, ValueError):
        put(printable(line) + "\n", sys.stderr)


@contextmanager
def computing(device: str, engine: str = "auto") -> Iterator[backend.Backend]:
    """The device for a command that does not train, with its threads. Raises: as `backend.choose`."""
    with backend.use_threads(backend.default_threads()[0]):
        yield backend.choose(device, engine, say=lambda line: None)


def ending(out: Path | None, *allowed: str) -> str:
    """The ending of the file `out`, like ``.png``; "" for a folder. Raises: UsageError if not `allowed`."""
    if not out or os.path.isdir(out) or not re.fullmatch(r"\.[A-Za-z]\w*", out.suffix):
        return ""
    if out.suffix.lower() not in allowed:
        endings = " or ".join(allowed)
        raise UsageError(f"--out {out} does not end in {endings}. Choose another name, or a folder.")
    return out.suffix.lower()


def placed(out: Path | None, folder: Path, name: str) -> Path:
    """The file `out`, or `name` in the folder `out`, by default in `folder`. Raises: as `ending`, `made`."""
    if out is None:
        return folder / name
    if ending(out, Path(name).suffix):
        return made(out.parent) / out.name
    return made(out) / name


def made(folder: Path) -> Path:
    """`folder`, created if necessary. Raises: CheckpointError if that fails."""
    with errors.failing(f"cannot make {folder}", "Use another --out."):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run `command` with `arguments`, by default this process's, and return its exit code. Ctrl-C gives
    `UNFINISHED`. A `TinyganError`, a full memory or disk, or a failing GPU is one line on stderr; any other
    exception is a bug and keeps its traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names can be invalid Unicode
    if arguments is None:
        _prepare_process()
        arguments = sys.argv[1:]
    try:
        with gpu_errors.failures():
            code = command(arguments)
        put("", sys.stdout)  # flush: a failure can still be reported here
        return _end("", code)  # a failure of stderr must not change the exit code
    except TinyganError as problem:
        return _end(f"{problem.mark}{problem}", problem.exit_code)
    except KeyboardInterrupt:  # a training handles Ctrl-C itself, to save
        return _end("interrupted before it finished", UNFINISHED)
    except BrokenPipeError:  # the reader of our output has gone, as with `| head`
        return _end("", 1)
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EIO):  # writing a file has its own errors
            raise
        return _end(f"error: cannot write the output: {problem.strerror}.", CheckpointError.exit_code)


def _prepare_process() -> None:
    """Set up a process that runs a single command."""
    # If the package's folder is on the path, `import cuda` would find tinygan's instead of NVIDIA's.
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file opened would get its number, and stray output
            os.open(os.devnull, os.O_RDWR)
    machine.keep_memory()


def _end(line: str, code: int) -> int:
    """Print the last line and return `code`, even if a stream fails because its terminal is gone."""
    for stream, text in ((sys.stdout, ""), (sys.stderr, line and line + "\n")):
        try:
            put(text, stream)
        except OSError:
            with suppress(AttributeError, OSError):  # else Python would flush it again at exit
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # pyright: ignore[reportOptionalMemberAccess]
    return code
