"""Pictures are written beside the rendering: all of them, in order, and errors are not lost."""

import threading
from typing import Any

import pytest

from featviz.atlas.writing import MOST_WAITING, Writer


def test_everything_is_written_in_order_by_another_thread() -> None:
    written: list[tuple[Any, int]] = []
    with Writer(lambda picture: written.append((picture, threading.get_ident()))) as writer:
        for number in range(3 * MOST_WAITING):
            writer.put(number)
    assert [number for number, _ in written] == list(range(3 * MOST_WAITING))
    assert {thread for _, thread in written} != {threading.get_ident()}


@pytest.mark.parametrize("ends", [KeyboardInterrupt, ValueError])
def test_what_was_handed_in_is_written_whatever_ends_the_work(ends: type[BaseException]) -> None:
    written: list[Any] = []
    gate = threading.Event()

    def slowly(picture: Any) -> None:
        gate.wait(10)
        written.append(picture)

    def work(writer: Writer[int]) -> None:
        for number in range(5):
            writer.put(number)
        gate.set()
        raise ends

    with pytest.raises(ends), Writer(slowly) as writer:
        work(writer)
    assert written == list(range(5))


def test_an_error_of_writing_is_raised() -> None:
    def fail(_: Any) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), Writer(fail) as writer:
        writer.put(1)


def test_a_slow_disk_holds_the_rendering_back() -> None:
    gate = threading.Event()
    with Writer(lambda _: gate.wait(10)) as writer:
        for number in range(MOST_WAITING):
            writer.put(number)
        late = threading.Thread(target=writer.put, args=(0,))
        late.start()
        late.join(0.2)
        assert late.is_alive()
        gate.set()
        late.join(10)
        assert not late.is_alive()
