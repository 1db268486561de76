"""A store keeps pictures whole, says whose they are, and finds what is damaged in it."""

import errno
import io
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from featviz.atlas.check import check, repair
from featviz.atlas.entry import Entry
from featviz.atlas.evidence import Evidence
from featviz.atlas.files import Files, Folder, Remote, files_at
from featviz.atlas.ledger import LayerUnits, layers_data, ledger
from featviz.atlas.record import Record, sha256
from featviz.atlas.store import Store, record_name
from featviz.atlas.table import table
from featviz.engine.picture import Picture, read_evidence
from featviz.engine.render import render
from featviz.errors import DoesNotFit, Malformed, NotAvailable
from featviz.network.network import Network
from featviz.network.planted.answers import DEAD
from featviz.network.zoo import load


@pytest.fixture(scope="module")
def network() -> Network:
    return load("planted")


@pytest.fixture(scope="module")
def pictures(network: Network) -> list[Picture]:
    return list(render(network, ["line:0-1", DEAD], size=48, steps=2))


@pytest.fixture(params=["folder", "url"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    url = f"memory://{uuid.uuid4().hex}/atlas"
    return files_at(tmp_path / "deep" / "store") if request.param == "folder" else files_at(url)


@pytest.fixture
def store(files: Files, network: Network, pictures: list[Picture]) -> Store:
    made = Store(files)
    made.claim(network)
    for picture in pictures:
        made.put(picture, seconds=1.5)
    return made


def test_files_are_read_written_created_once_and_listed(files: Files) -> None:
    assert list(files.names("")) == []
    assert not files.exists("a/b.txt")
    with pytest.raises(FileNotFoundError):
        files.read("a/b.txt")
    assert files.create("a/b.txt", b"first")
    assert not files.create("a/b.txt", b"second")
    assert files.read("a/b.txt") == b"first"
    files.write("a/b.txt", b"third")
    files.write("c.txt", b"")
    assert files.read("a/b.txt") == b"third"
    assert (list(files.names("a")), list(files.names(""))) == (["a/b.txt"], ["a/b.txt", "c.txt"])
    files.remove("a/b.txt")
    files.remove("a/b.txt")
    assert not files.exists("a/b.txt")


def test_of_many_writers_of_one_file_one_wins(tmp_path: Path) -> None:
    files = Folder(tmp_path)
    won: list[int] = []

    def create(number: int) -> None:
        if files.create("one", b"%d" % number * 10000):
            won.append(number)

    threads = [Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert files.read("one") == b"%d" % won[0] * 10000
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_folder_without_links_still_keeps_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    files = Folder(tmp_path)
    assert files.create("one", b"first")
    assert not files.create("one", b"second")
    assert files.read("one") == b"first"


@pytest.mark.parametrize("place", ["nope://bucket/x", "s4://bucket"])
def test_a_url_that_nothing_opens_is_refused(place: str) -> None:
    with pytest.raises(NotAvailable, match=place):
        files_at(place)


def test_a_local_url_is_a_folder(tmp_path: Path) -> None:
    assert isinstance(files_at(f"file://{tmp_path}"), Folder)
    assert isinstance(files_at("memory://x"), Remote)


def test_a_picture_is_kept_with_its_record(store: Store, pictures: list[Picture]) -> None:
    for picture in pictures:
        record = store.get(f"{picture.recipe.digest}-0")
        assert record is not None
        assert record.asked() == picture.recipe
        assert (record.verdict, record.steps, record.seconds) == (picture.verdict, 2, 1.5)
        assert record.course == picture.course
        assert bool(record.reason) == (picture.verdict == "dead")
        content = store.read(record)
        assert content == picture.encoded()
        with Image.open(io.BytesIO(store.read(record, "thumbnail"))) as small:
            assert (small.format, small.size) == ("WEBP", (48, 48))
    assert {record.digest for record in store.records()} == {p.recipe.digest for p in pictures}
    assert check(store).damages == check(store).leftovers == ()
    assert check(store).whole == 3


def test_formats_are_chosen(tmp_path: Path, pictures: list[Picture]) -> None:
    store = Store.at(tmp_path)
    record = store.put(pictures[0], formats=("webp", "jpeg"))
    assert set(record.files) == {"picture", "lossy", "thumbnail"}
    assert read_evidence(tmp_path / record.files["picture"][0])["digest"] == record.digest
    assert record.files["picture"][0].endswith(".webp")
    with Image.open(io.BytesIO(store.read(record, "lossy"))) as lossy:
        assert (lossy.format, lossy.size) == ("JPEG", (48, 48))


def test_the_first_picture_of_a_recipe_stays(store: Store, pictures: list[Picture]) -> None:
    first = store.get(f"{pictures[0].recipe.digest}-0")
    other = replace(pictures[0], pixels=255 - pictures[0].pixels, score=-1.0)
    assert store.put(other) == first


def test_a_picture_that_another_writer_is_about_to_record_is_not_touched(
    tmp_path: Path, pictures: list[Picture]
) -> None:
    mine, theirs = Store.at(tmp_path), Store.at(tmp_path)
    other = replace(pictures[0], pixels=255 - pictures[0].pixels)
    record = theirs.put(other)
    theirs.files.remove(record_name(record.key))  # as before it was written
    kept = mine.put(pictures[0])
    assert kept.files["picture"][0] != record.files["picture"][0]
    assert mine.read(kept) == pictures[0].encoded()
    assert sha256(theirs.files.read(record.files["picture"][0])) == record.files["picture"][1]
    found = check_claimed(mine, pictures[0])
    assert (found.damages, len(found.leftovers)) == ((), 2)  # their picture and thumbnail


def check_claimed(store: Store, picture: Picture) -> Any:
    store.claim(load("planted"))
    assert store.get(f"{picture.recipe.digest}-0") is not None
    return check(store)


def test_a_store_is_one_networks(tmp_path: Path, network: Network) -> None:
    store = Store.at(tmp_path)
    with pytest.raises(DoesNotFit, match=r"no atlas\.json"):
        store.head()
    store.claim(network)
    store.claim(network)
    other = load("efficientnet_lite0", weights="none")
    with pytest.raises(DoesNotFit, match=r"pictures of planted with fingerprint .* another --out"):
        store.claim(other)
    store.write_json("atlas.json", {"format": 2})
    with pytest.raises(DoesNotFit, match=r"format 2.*a newer featviz made it"):
        store.claim(network)
    (tmp_path / "atlas.json").write_text("{")
    with pytest.raises(Malformed, match=r"atlas\.json.*whole JSON"):
        store.head()


def test_a_record_is_json_both_ways(store: Store) -> None:
    record = next(store.records())
    assert Record.from_json(record.to_json(), "x") == record
    data = json.loads(record.to_json())
    for broken in ({**data, "format": 0}, {**data, "more": 1}, {"format": 1}, [], data["files"]):
        with pytest.raises(Malformed, match="'its name'"):
            Record.from_json(json.dumps(broken).encode(), "its name")
    for text in (b"", b"{", b"\xff\xfe", record.to_json()[:-40]):
        with pytest.raises(Malformed, match="'its name'"):
            Record.from_json(text, "its name")


def test_a_record_names_its_own_files_alone(store: Store, tmp_path: Path) -> None:
    record = next(store.records())
    victim = tmp_path / "victim.txt"
    victim.write_text("here")
    for name in ("../victim.txt", str(victim), "pictures/00/x.png", "atlas.json"):
        files = {**record.files, "picture": (name, "0" * 64)}
        store.files.write(record_name(record.key), replace(record, files=files).to_json())
        assert store.get(f"{record.digest}-0") is None
        (damage,) = check(store).damages
        assert "expected a whole record" in str(damage)
        repair(store, check(store))
        assert victim.read_text() == "here"
        assert store.head()


def test_a_newer_record_is_neither_read_nor_repaired(store: Store, pictures: list[Picture]) -> None:
    record = store.get(f"{pictures[0].recipe.digest}-0")
    assert record is not None
    data = {**json.loads(record.to_json()), "format": 2}
    store.files.write(record_name(record.key), json.dumps(data).encode())
    for look in (lambda: store.put(pictures[0]), lambda: check(store)):
        with pytest.raises(DoesNotFit, match=r"format 2.*a newer featviz made it"):
            look()
    assert json.loads(store.files.read(record_name(record.key))) == data


def test_what_cannot_be_read_now_is_not_taken_for_missing(
    store: Store, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object, name: str) -> bytes:
        raise NotAvailable(name, there="the network is down")

    monkeypatch.setattr(type(store.files), "read", refuse)
    with pytest.raises(NotAvailable, match="the network is down"):
        store.get(f"{pictures[0].recipe.digest}-0")


@pytest.mark.parametrize("name", ["plan.json", "layers.json"])
@pytest.mark.parametrize(
    "text", [b"{", b"{}", b'{"format": 2, "entries": [], "layers": []}', b"[]"]
)
def test_a_damaged_plan_or_list_of_layers_is_damage(store: Store, name: str, text: bytes) -> None:
    store.files.write(name, text)
    (damage,) = check(store).damages
    assert str(damage) == f"{name}: not readable"
    repair(store, check(store))
    assert not store.files.exists(name)


Spoil = Callable[[Store, Record, Record], None]


def truncate(store: Store, record: Record, _: Record) -> None:
    name = record.files["picture"][0]
    store.files.write(name, store.files.read(name)[:-40])


def exchange(store: Store, record: Record, other: Record) -> None:
    store.files.write(record.files["picture"][0], store.read(other))


def remove(store: Store, record: Record, _: Record) -> None:
    store.files.remove(record.files["thumbnail"][0])


def cut_record(store: Store, record: Record, _: Record) -> None:
    store.files.write(record_name(record.key), record.to_json()[:-40])


def move_record(store: Store, record: Record, other: Record) -> None:
    store.files.write(record_name(record.key), other.to_json())


def change_recipe(store: Store, record: Record, _: Record) -> None:
    changed = replace(record, recipe={**record.recipe, "steps": 3})
    store.files.write(record_name(record.key), changed.to_json())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (truncate, "truncated or no image (picture)"),
        (exchange, "not the file that is named (picture)"),
        (remove, "missing, though it is named (thumbnail)"),
        (cut_record, "expected a whole record"),
        (move_record, "expected that of"),
        (change_recipe, "its recipe has another digest"),
    ],
)
def test_damage_is_named_and_repaired(
    store: Store, pictures: list[Picture], spoil: Spoil, words: str
) -> None:
    record, other = (store.get(f"{picture.recipe.digest}-0") for picture in pictures[:2])
    assert record is not None
    assert other is not None
    store.write_evidence(record.key, {"score": 1})
    spoil(store, record, other)
    (damage,) = check(store).damages
    assert words in str(damage)
    assert record.key in damage.name
    repair(store, check(store))
    assert (check(store).damages, check(store).whole) == ((), 2)
    assert store.get(f"{record.digest}-0") is None
    assert store.evidence(record.key) is None
    store.put(pictures[0])
    assert (check(store).damages, check(store).whole) == ((), 3)


def test_foreign_files_and_records_are_damage_leftovers_are_not(store: Store) -> None:
    record = next(store.records())
    key = "0" * 32 + "-0"
    store.files.write("pictures/mine.png", b"x")
    store.files.write("records/00/notes.txt", b"x")
    store.files.write(f"pictures/00/{key}.png", b"before its record")
    store.files.write(f"records/00/.{key}.json.a1b2", b"half")
    store.files.write(f"evidence/{record.key[:2]}/{record.key}.json", b"{")
    found = check(store)
    assert [str(each) for each in found.damages] == [
        f"evidence/{record.key[:2]}/{record.key}.json: evidence that cannot be read",
        "pictures/mine.png: no file of ours",
        "records/00/notes.txt: no file of ours",
    ]
    assert found.leftovers == (f"pictures/00/{key}.png", f"records/00/.{key}.json.a1b2")
    repair(store, found)
    assert check(store) == replace(found, damages=(), leftovers=())


def test_a_picture_of_another_network_is_damage(store: Store, pictures: list[Picture]) -> None:
    other = replace(pictures[0], recipe=replace(pictures[0].recipe, network="0" * 64))
    store.put(other)
    (damage,) = check(store).damages
    assert "a picture of another network, planted" in str(damage)


def test_the_table_has_a_row_a_picture(store: Store, pictures: list[Picture]) -> None:
    digest = pictures[0].recipe.digest
    entry = {"digest": digest, "index": 0, "address": "line:0", "layer": "line", "channel": 0}
    entry |= {"technique": "channel", "title": "line:0", "seed": 0, "is_view": False}
    store.write_json("plan.json", {"format": 1, "entries": [entry]})
    known = Evidence("pink-512", rank=2, spectrum_gap=0.25, path_flag=True)
    store.write_evidence(f"{digest}-0", known.to_data())
    rows = parquet.read_table(io.BytesIO(table(store))).to_pylist()
    named = {row["digest"]: row for row in rows}
    assert len(rows) == len(named) == 3
    mine = named[digest]
    assert (mine["address"], mine["layer"], mine["channel"]) == ("line:0", "line", 0)
    assert (mine["rank"], mine["spectrum_gap"], mine["path_flag"]) == (2, 0.25, True)
    assert (mine["rows"], mine["score"]) == (48, pytest.approx(pictures[0].score))
    dead = named[pictures[2].recipe.digest]
    assert (dead["verdict"], dead["address"], dead["rank"]) == ("dead", None, None)


def test_the_ledger_counts_units_not_pictures() -> None:
    layers = [
        LayerUnits("a", 4, is_view=False),
        LayerUnits("b", 3, is_view=False),
        LayerUnits("sum", 2, is_view=True),
    ]
    asked = [("a", 0), ("a", 0), ("a", 1), ("a", 2), ("sum", 1), (None, None)]
    entries = [
        Entry(f"d{place}", 0, "", layer, channel, "channel", "", seed=0, is_view=False)
        for place, (layer, channel) in enumerate(asked)
    ]
    good, dead, wrong = ("rendered", ""), ("dead", "silent"), ("not finite", "NaN")
    known = {"d0-0": wrong, "d1-0": good, "d2-0": dead, "d4-0": good, "d5-0": good}
    found = ledger(layers, entries, known)
    assert (found.network.units, found.network.pictured, found.network.missing) == (7, 1, 5)
    assert found.network.failed == {"dead: silent": 1}
    assert found.network.accounted == pytest.approx(2 / 7)
    config = found.of_config
    assert (config.units, config.pictured, config.missing) == (6, 3, 1)
    assert config.failed == {"not finite: NaN": 1, "dead: silent": 1}
    assert (found.views.units, found.views.pictured) == (2, 1)
    assert (found.by_layer["a"].units, found.by_layer["b"].missing) == (4, 3)


def test_layers_are_described_as_they_are_listed(network: Network) -> None:
    data = layers_data(network)
    assert (data["network"], data["fingerprint"]) == ("planted", network.fingerprint)
    known = network.layers()
    assert [each["name"] for each in data["layers"]] == list(known)
    described = {each["name"]: each for each in data["layers"]}
    assert described["line"]["channels"] == known["line"].channels
    assert described["line"]["field"] == [network.fields()["line"].rows] * 2
    assert json.loads(json.dumps(data)) == data
