"""A progress bar on stderr; a plain line now and then where stderr is not a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def progress_bar(pictures: int) -> Iterator[Callable[[float], None]]:
    """A function to be told of work done, in pictures."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console, pictures)
        return
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("pictures", total=pictures)
        yield lambda done: bar.advance(task, done)


def _lines(console: Console, pictures: int) -> Callable[[float], None]:
    done, told = 0.0, 0

    def advance(more: float) -> None:
        nonlocal done, told
        done += more
        tenth = int(10 * done / pictures + 1e-6)
        if tenth > told:
            told = tenth
            console.print(f"{10 * tenth} % of {pictures} pictures", highlight=False)

    return advance
