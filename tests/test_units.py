"""Selections and addresses: every form, what they mean among layers, what mistakes say."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featviz.errors import DoesNotFit, FeatvizError, Malformed, OutOfRange, UnknownName
from featviz.units import (
    Extent,
    Read,
    Unit,
    layer_key,
    parse_selection,
    parse_unit,
    split_key,
)

EXTENTS = {
    "stem": Extent(4, is_view=False),
    "blocks.0": Extent(6, is_view=False),
    "blocks.0.sum": Extent(6, is_view=True),
    "blocks.1": Extent(3, is_view=False),
    "head": Extent(2, is_view=False),
}

names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}(\.[a-z0-9_]{1,4}){0,2}", fullmatch=True)
reads: st.SearchStrategy[Read] = st.sampled_from(["default", "pre", "post"])
places = st.integers(min_value=0, max_value=300)
positions = st.one_of(st.none(), st.just("center"), st.tuples(places, places))
units = st.builds(Unit, layer=names, channel=places, read=reads, position=positions)


def channels(text: str) -> list[int]:
    return [unit.channel for unit in parse_selection(text).units(EXTENTS)]


def layers(text: str) -> list[str]:
    return list(dict.fromkeys(unit.layer for unit in parse_selection(text).units(EXTENTS)))


@given(unit=units)
def test_a_printed_unit_reads_as_itself(unit: Unit) -> None:
    assert parse_unit(str(unit)) == unit


@given(key=st.tuples(names, reads))
def test_a_key_splits_into_what_made_it(key: tuple[str, Read]) -> None:
    assert split_key(layer_key(*key)) == key


@given(wanted=st.sets(st.integers(0, 5), min_size=1))
def test_a_list_of_channels_selects_them(wanted: set[int]) -> None:
    assert set(channels("blocks.0:" + ",".join(map(str, wanted)))) == wanted


@given(first=st.integers(0, 5), length=st.integers(0, 5), step=st.integers(1, 7))
def test_a_range_with_a_step_is_pythons(first: int, length: int, step: int) -> None:
    last = min(first + length, 5)
    assert channels(f"blocks.0:{first}-{last}/{step}") == list(range(first, last + 1, step))


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("conv1:7", Unit("conv1", 7)),
        ("blocks.4/pre:17", Unit("blocks.4", 17, "pre")),
        ("blocks.4/post:17@center", Unit("blocks.4", 17, "post", "center")),
        ("blocks.4:17@7,9", Unit("blocks.4", 17, "default", (7, 9))),
        (" blocks.4:17@7, 9 ", Unit("blocks.4", 17, "default", (7, 9))),
        ("0:3", Unit("0", 3)),
    ],
)
def test_addresses(text: str, unit: Unit) -> None:
    assert parse_unit(text) == unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks.0", [0, 1, 2, 3, 4, 5]),
        ("blocks.0:*", [0, 1, 2, 3, 4, 5]),
        ("blocks.0:*/4", [0, 4]),
        ("blocks.0:1-3", [1, 2, 3]),
        ("blocks.0:0-5/2", [0, 2, 4]),
        ("blocks.0:5,0-1", [5, 0, 1]),
        ("blocks.0:3, 1", [3, 1]),
        ("blocks.0:0-0", [0]),
        ("blocks.0:1,0-2,1", [1, 0, 2]),  # none twice
    ],
)
def test_channels_of_a_selection(text: str, expected: list[int]) -> None:
    assert channels(text) == expected


def test_globs_select_unit_layers_in_order_and_views_only_by_name() -> None:
    assert layers("*") == ["stem", "blocks.0", "blocks.1", "head"]
    assert layers("blocks.*") == ["blocks.0", "blocks.1"]
    assert layers("[sh]*:0-1") == ["stem", "head"]
    assert layers("blocks.0.sum") == ["blocks.0.sum"]


def test_a_glob_leaves_out_layers_without_the_read_point() -> None:
    extents = {**EXTENTS, "head": Extent(2, is_view=False, has_pre=False)}
    found = parse_selection("*/pre:0").units(extents)
    assert [unit.layer for unit in found] == ["stem", "blocks.0", "blocks.1"]
    assert [u.layer for u in parse_selection("h*/post:0").units(extents)] == ["head"]
    with pytest.raises(UnknownName, match=r"no read point 'h\*/pre'"):
        parse_selection("h*/pre:0").units(extents)


def test_read_point_and_position_go_to_every_unit() -> None:
    found = parse_selection("blocks.1/pre:0-1@2,3").units(EXTENTS)
    assert found == [Unit("blocks.1", c, "pre", (2, 3)) for c in (0, 1)]


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":3", "conv1:", "conv1:x", "conv1:1,,2", "conv1:-3", "conv1:1-", "conv1:2/0"),
        *("conv1@", "conv1:1@7", "conv1:1@7,8,9", "conv1/mid:1", "conv1:1@middle", "con v1:1"),
        *("conv1:5-3", "conv1:1 2", "a:b:c"),
    ],
)
def test_what_cannot_be_read_is_named_with_an_example(text: str) -> None:
    with pytest.raises(Malformed) as error:
        parse_selection(text)
    assert repr(text) in str(error.value)
    assert "expected" in str(error.value)


def test_errors_name_the_thing_and_what_there_is() -> None:
    with pytest.raises(UnknownName, match=r"no layer 'bloks.0'; nearest: blocks.0"):
        parse_selection("bloks.0:1").units(EXTENTS)
    with pytest.raises(UnknownName, match=r"no layer 'z\*'.*featviz layers"):
        parse_selection("z*").units(EXTENTS)
    with pytest.raises(OutOfRange, match=r"channel 6 .*'blocks.0' has 0 to 5"):
        parse_selection("blocks.0:4-6").units(EXTENTS)
    with pytest.raises(OutOfRange, match=r"channel 5 .*'stem' has 0 to 3"):
        parse_selection("*:5").units(EXTENTS)


@pytest.mark.parametrize("text", ["conv1", "conv1:1-2", "conv1:1,2", "conv*:1", "conv1:*"])
def test_a_units_address_names_exactly_one(text: str) -> None:
    with pytest.raises(DoesNotFit, match="exactly one channel"):
        parse_unit(text)


@given(text=st.text(max_size=20))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(FeatvizError):
        assert parse_selection(text).units(EXTENTS) is not None
