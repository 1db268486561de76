"""Progress on stderr: a bar in a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400


class Bar:
    """How many pictures' worth of work is done, which layer is at work, how many failed.

    `show` is given how much more is done, and words about it.
    """

    def __init__(self, pictures: int, show: Callable[[float, str], None]) -> None:
        self.pictures = pictures
        self.done = 0.0
        self.layer = ""
        self.failures = 0
        self._show = show
        self._start = time.monotonic()

    def advance(self, pictures: float) -> None:
        """So many pictures' worth of work is done; what is done twice counts once at the end."""
        more = min(pictures, self.pictures - self.done)
        self.done += more
        self._show(more, self.words())

    def finished(self, layer: str, *, is_good: bool) -> None:
        """A picture of this layer has ended."""
        self.layer = layer
        self.failures += not is_good

    def words(self) -> str:
        """Pictures a second, the layer, failures."""
        rate = self.done / max(time.monotonic() - self._start, 1e-9)
        failed = f"{self.failures} without a picture" if self.failures else ""
        return ", ".join(word for word in (f"{rate:.2g}/s", self.layer, failed) if word)


@contextmanager
def progress_bar(what: str, pictures: int) -> Iterator[Bar]:
    """Something to be told of work done, in pictures; those that end early count as whole."""
    console = Console(stderr=True)
    if not console.is_terminal:
        bar = Bar(pictures, _lines(console, what, pictures))
        yield bar
        bar.advance(pictures - bar.done)
        return
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()),
        *(TimeRemainingColumn(), TextColumn("{task.fields[words]}")),
    )
    with Progress(*columns, console=console, redirect_stdout=False) as shown:
        task = shown.add_task(what, total=pictures, words="")
        bar = Bar(pictures, lambda more, words: shown.update(task, advance=more, words=words))
        yield bar
        bar.advance(pictures - bar.done)


def echo(result: str) -> None:
    """Prints a line of results; a progress bar on the same terminal goes on below it."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        click.echo("\r\x1b[2K", nl=False, err=True)  # the bar's line, where the cursor stands
    click.echo(result)


def in_words(seconds: float) -> str:
    """A duration in the two units that matter: "5 s", "3 min", "2 h 10 min", "3 d 4 h"."""
    if seconds < MINUTE_S:
        return f"{max(1, round(seconds))} s"
    if seconds < HOUR_S:
        return f"{round(seconds / MINUTE_S)} min"
    minutes = round(seconds / MINUTE_S)
    if seconds < DAY_S:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _lines(console: Console, what: str, pictures: int) -> Callable[[float, str], None]:
    """Prints a line for each tenth, with the time that the rest takes at the same rate."""
    done, told, start = 0.0, 0, time.monotonic()

    def show(more: float, words: str) -> None:
        nonlocal done, told
        done += more
        tenth = int(10 * done / pictures + 1e-6) if pictures else 0
        if tenth > told:
            told = tenth
            noun = what.removesuffix("s") if pictures == 1 else what
            left_s = (time.monotonic() - start) * (pictures - done) / done
            left = f", {in_words(left_s)} left" if tenth < 10 else ""
            line = f"{10 * tenth} % of {pictures} {noun} ({words}{left})"
            console.print(line, highlight=False, soft_wrap=True)

    return show
