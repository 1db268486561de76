"""A progress bar on stderr; a plain line now and then where stderr is not a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(pictures: int) -> Iterator[Callable[[float], None]]:
    """A function to be told of work done, in pictures; pictures that end early count as whole."""
    console = Console(stderr=True)
    done = 0.0

    def count(more: float) -> None:
        nonlocal done
        done += more
        show(more)

    if not console.is_terminal:
        show = _lines(console, pictures)
        yield count
        show(pictures - done)
        return
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, redirect_stdout=False) as bar:
        task = bar.add_task("pictures", total=pictures)
        show = partial(bar.advance, task)
        yield count
        show(pictures - done)


def echo(result: str) -> None:
    """Prints a line of results; a progress bar on the same terminal goes on below it."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        click.echo("\r\x1b[2K", nl=False, err=True)  # the bar's line, where the cursor stands
    click.echo(result)


def _lines(console: Console, pictures: int) -> Callable[[float], None]:
    done, told = 0.0, 0

    def advance(more: float) -> None:
        nonlocal done, told
        done += more
        tenth = int(10 * done / pictures + 1e-6)
        if tenth > told:
            told = tenth
            noun = "picture" if pictures == 1 else "pictures"
            console.print(f"{10 * tenth} % of {pictures} {noun}", highlight=False)

    return advance
