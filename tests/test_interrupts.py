"""Interruptions wait for the end of what holds them back."""

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from featviz.interrupts import uninterrupted


@pytest.fixture(autouse=True)
def handled() -> Iterator[list[int]]:
    """SIGTERM is told here, and SIGINT is a KeyboardInterrupt."""
    told = list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    yield told
    signal.signal(signal.SIGTERM, before)


def handlers() -> list[object]:
    return [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]


@uninterrupted()
def hearing(done: list[str], *signals: signal.Signals) -> None:
    for each in signals:
        signal.raise_signal(each)
        done.append(each.name)


def test_an_interruption_comes_at_the_end_at_every_call() -> None:
    done, before = list[str](), handlers()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            hearing(done, signal.SIGINT)
        assert handlers() == before
    assert done == ["SIGINT", "SIGINT"]


def test_a_handler_of_the_program_is_asked(handled: list[int]) -> None:
    with uninterrupted():
        signal.raise_signal(signal.SIGTERM)
        assert handled == []
    assert handled == [signal.SIGTERM]


def test_a_second_one_comes_at_once(handled: list[int]) -> None:
    done, before = list[str](), handlers()
    with pytest.raises(KeyboardInterrupt):
        hearing(done, signal.SIGTERM, signal.SIGINT)
    assert (done, handled) == (["SIGTERM"], [signal.SIGTERM])
    assert handlers() == before


def test_a_second_one_that_is_dropped_within_leaves_the_first() -> None:
    """As by what calls Python and tells none of its errors."""
    done = list[str]()

    @uninterrupted()
    def dropping() -> None:
        with suppress(KeyboardInterrupt):
            hearing(done, signal.SIGINT, signal.SIGINT)
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        dropping()
    assert done == ["SIGINT", "the rest"]


def test_handlers_are_put_back_whatever_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    before, set_one = handlers(), signal.signal

    def interrupting(number: int, handler: Any) -> Any:
        was = set_one(number, handler)
        if handler is signal.default_int_handler:
            signal.raise_signal(signal.SIGINT)
        return was

    monkeypatch.setattr(signal, "signal", interrupting)
    with pytest.raises(KeyboardInterrupt):
        hearing([])
    assert handlers() == before


def test_the_end_of_one_within_another_is_none() -> None:
    done = list[str]()

    @uninterrupted()
    def outer() -> None:
        hearing(done, signal.SIGINT)
        done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["SIGINT", "the rest"]


def test_an_error_within_is_told_where_nobody_interrupts() -> None:
    before = handlers()
    with pytest.raises(ValueError, match="within"), uninterrupted():
        raise ValueError("within")
    assert handlers() == before


def test_signals_without_a_handler_of_the_program_are_left_alone() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with uninterrupted():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_elsewhere_than_in_the_main_thread_nothing_waits() -> None:
    before, seen = handlers(), list[object]()

    def work() -> None:
        with uninterrupted():
            seen.extend(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
