"""Interruptions that wait for the end of what they may not cut in two."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_is_on = False


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A context, or a decorator, at whose end the program's handler of SIGINT or SIGTERM runs if
    one of them came within; that of a second one runs at once, too.

    Python runs a handler between any two of its instructions, and what called these may tell a
    KeyboardInterrupt as another error or drop it: ctypes does, and so does torch.
    """
    global _is_on
    if _is_on or threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {each: signal.getsignal(each) for each in _SIGNALS}
    handlers = {int(each): handler for each, handler in found.items() if callable(handler)}
    came = list[int]()

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            handlers[number](number, frame)

    try:
        with ExitStack() as afterwards:  # which does all of it, whatever a handler raises
            for number, handler in handlers.items():
                afterwards.callback(signal.signal, number, handler)
            _is_on = True
            for number in handlers:
                signal.signal(number, hold)
            yield
    finally:
        _is_on = False
        if came:
            handlers[came[0]](came[0], None)
