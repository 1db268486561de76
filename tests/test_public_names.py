"""What `import featviz` offers is what `__all__` says, sorted, and few."""

import types

import featviz

MOST = 40


def test_all_is_what_is_there() -> None:
    there = {
        name
        for name, value in vars(featviz).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert set(featviz.__all__) == there
    assert len(featviz.__all__) == len(there) <= MOST


def test_all_is_sorted_as_ruff_does() -> None:
    """Constants, then classes, then functions, each in alphabetical order."""

    def place(name: str) -> tuple[int, str]:
        kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
        return kind, name

    assert list(featviz.__all__) == sorted(featviz.__all__, key=place)


def test_every_name_says_what_it_is() -> None:
    for name in featviz.__all__:
        words = getattr(featviz, name).__doc__
        assert words, name
        assert not words.startswith(f"{name}("), f"{name} has only a dataclass's own docstring"


def test_the_example_of_the_front_page_is_there() -> None:
    assert featviz.__doc__ is not None
    for call in ("featviz.load()", "featviz.render(", ".save("):
        assert call in featviz.__doc__
