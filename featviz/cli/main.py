"""The command group, and where errors become one line and exit code 2."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
import torch

from featviz.cli.animate import animate
from featviz.cli.atlas import atlas, coverage, sheet
from featviz.cli.networks import layers, networks, units
from featviz.cli.plan import plan_command
from featviz.cli.render import render
from featviz.cli.site import serve, site
from featviz.cli.store import store
from featviz.engine.execution import available_cores
from featviz.errors import FeatvizError


class Stop(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands may raise any FeatvizError; wrong usage is one line too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # the help, as click shows it
            return super().parse_args(ctx, args)
        with _one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line(ctx), _stopped_by(signal.SIGTERM):
            return super().invoke(ctx)


@contextmanager
def _one_line(ctx: click.Context) -> Iterator[None]:
    """Turns what a user can act on into a Stop."""
    try:
        yield
    except FeatvizError as error:
        raise Stop(_line(str(error))) from error
    except click.UsageError as error:
        command = ctx.command_path if error.ctx is None else error.ctx.command_path
        message = _line(error.format_message()).rstrip(".")
        raise Stop(f"{message}; see '{command} --help'") from error


@contextmanager
def _stopped_by(number: signal.Signals) -> Iterator[None]:
    """A context in which a signal ends the command as Ctrl-C does: what is finished is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, before)


def _line(message: str) -> str:
    return " ".join(message.split())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="featviz")
def main() -> None:
    """See every neuron of a network: pictures, rendered from noise, of what makes it fire."""
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


COMMANDS = (
    *(networks, layers, units, render, animate),
    *(plan_command, atlas, coverage, site, serve, sheet, store),
)
for command in COMMANDS:
    main.add_command(command)
