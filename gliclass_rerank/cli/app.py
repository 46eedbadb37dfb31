"""Command line: parse, call the library, print.

Results go to stdout; progress, notes and errors go to stderr. An error is one line that starts with "error:"; its exit
code is 2 for wrong arguments, 1 for everything else. Model modules are imported inside the commands, which keeps
`--help` fast.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from gliclass_rerank._version import __version__
from gliclass_rerank.calls.steps import Token, working
from gliclass_rerank.cli.batch import batch
from gliclass_rerank.cli.bundled_models import models
from gliclass_rerank.cli.classifying import classify
from gliclass_rerank.cli.examples import examples
from gliclass_rerank.cli.mcp import mcp
from gliclass_rerank.cli.measuring import evaluate
from gliclass_rerank.cli.preparing import optimize, precompute
from gliclass_rerank.cli.ranking import rank
from gliclass_rerank.cli.reporting import report
from gliclass_rerank.cli.sections import Sections
from gliclass_rerank.cli.serve import ENVIRONMENT, serve
from gliclass_rerank.errors import ConfigError, GLiClassRerankError, InputError
from gliclass_rerank.learn.data.mining_command import mine, teach
from gliclass_rerank.learn.data.rac_command import pseudo_label, rac_data
from gliclass_rerank.learn.training.command import average, calibrate, cascade, train
from gliclass_rerank.learn.updating.command import learn, rollback, versions

_PROGRAM: Final = "gliclass-rerank"
_FAILED: Final = 1
_WRONG_ARGUMENTS: Final = 2
_INTERRUPTED: Final = 130
_USE, _MEASURE, _TRAIN = "Use", "Measure", "Train"

app = typer.Typer(
    cls=Sections,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(rich_help_panel=_USE)(rank)
app.command(rich_help_panel=_USE)(batch)
app.command(rich_help_panel=_USE)(classify)
app.command(rich_help_panel=_USE)(models)
app.command(rich_help_panel=_USE, context_settings={"auto_envvar_prefix": ENVIRONMENT})(serve)
app.command(rich_help_panel=_USE)(mcp)
app.add_typer(examples, name="examples", rich_help_panel=_USE)
for _title, _commands in {
    _USE: (optimize, precompute),
    _MEASURE: (report, evaluate, calibrate),
    _TRAIN: (learn, versions, rollback, train, average, cascade, mine, teach, rac_data, pseudo_label),
}.items():
    for _command in _commands:
        app.command(_command.__name__.replace("_", "-"), rich_help_panel=_title)(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None for the process's.

    Returns:
        Exit code: 0, 2 for wrong arguments, 1 after another error, 130 after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A passage may hold characters outside the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if argv is None else list(argv)
    with working() as token:
        if argv is None:
            _cancel_when_interrupted(token)
        try:
            code = int(typer.main.get_command(app).main(words, prog_name=_PROGRAM, standalone_mode=False) or 0)
        except BaseException as error:  # noqa: BLE001 - raised again unless it is known
            code = _code_of(error, token, words)
    if code == _INTERRUPTED and argv is None:
        # The process is exiting; another Ctrl-C would only print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return code


def _cancel_when_interrupted(token: Token) -> None:
    """Cancel the call on Ctrl-C besides raising, and end at once while a library is imported.

    A library's C++ may turn an exception of its imports into an abort, a weak reference's callback into a warning.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        token.cancel()
        if _is_importing(frame):
            os._exit(_INTERRUPTED)
        signal.default_int_handler(number, frame)

    def unraisable(found: sys.UnraisableHookArgs) -> None:
        if not isinstance(found.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(found)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
        sys.unraisablehook = unraisable


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _code_of(error: BaseException, token: Token, words: Sequence[str]) -> int:
    """Exit code for an exception; one that is not known is raised again."""
    if isinstance(error, KeyboardInterrupt) or token.is_cancelled:
        return _INTERRUPTED
    if isinstance(error, (TyperException, ConfigError, InputError)):
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        return _fail(f"{message.rstrip('.')}; see `{_command_of(words)} --help`", _WRONG_ARGUMENTS)
    if isinstance(error, (GLiClassRerankError, OSError)):
        return _fail(str(error), _FAILED)
    raise error


def _command_of(words: Sequence[str]) -> str:
    """The program and the command that its arguments name."""
    path, command = [_PROGRAM], typer.main.get_command(app)
    for word in words:
        found = getattr(command, "commands", {}).get(word)
        if found is None:
            break
        command = found
        path.append(word)
    return " ".join(path)


def _fail(message: str, code: int) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{_PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    ctx: typer.Context,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Rank passages and classify texts with GLiClass."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
