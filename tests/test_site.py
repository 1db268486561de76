"""The site of a store as files, what is escaped in them, and the server that shows them."""

import io
import json
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from benchmarks.site import MadeLayer, make_store
from featviz.atlas.site.folder import MANIFEST
from featviz.atlas.site.measures import measured, number
from featviz.atlas.site.report import unit_link
from featviz.atlas.site.scripts import call, safe
from featviz.atlas.site.server import SiteServer, file_of
from featviz.atlas.site.thumbnails import CELL_PX, features, mean_color, most_similar, sheets
from featviz.atlas.site.write import Site, write_site
from featviz.atlas.store import Store
from featviz.cli.main import Commands
from featviz.cli.site import serve, site
from featviz.errors import DoesNotFit, NotAvailable

STRANGE = (
    '</script><img src=x onerror="boom()">',
    'it\'s "quoted" & <b>bold</b>',
    "a\u2028b\u2029c",
)
PHOTOGRAPHS = ("a/cat.jpg", "<b>.png")
LAYERS = (
    MadeLayer("early", 5, ("channel", "negative"), exemplars=PHOTOGRAPHS),
    MadeLayer("late.0", 40, ("channel",), STRANGE),
    MadeLayer(STRANGE[0], 2),
)
UNITS = 5 + 40 + len(STRANGE) + 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store; nobody changes it."""
    folder = tmp_path_factory.mktemp("made") / "store"
    make_store(folder, LAYERS, size=24)
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A store of one's own."""
    return shutil.copytree(made, tmp_path / "store")


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the store; nobody changes it."""
    return write_site(Store.at(made), tmp_path_factory.mktemp("whole") / "site").folder


def written(store: Path) -> Site:
    return write_site(Store.at(store), store / "site")


def handed(folder: Path, pattern: str) -> list[list[Any]]:
    """What the scripts of a site hand to featviz."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((folder / "data").glob(pattern))]
    found = [re.fullmatch(r"featviz\.\w+\((.*)\);\n", text, re.DOTALL) for text in texts]
    return [json.loads(f"[{each[1]}]") for each in found if each is not None]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def command(*arguments: object) -> Result:
    """What the commands print, as under `featviz`."""
    group = Commands("featviz", commands={"site": site, "serve": serve})
    return CliRunner().invoke(group, [str(each) for each in arguments])


class Tags(HTMLParser):
    """Tags, their attributes and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_site_has_every_unit_once_and_every_picture(made: Path, whole: Path) -> None:
    (atlas,) = handed(whole, "atlas-*.js")
    layers = handed(whole, "layer-*.js")
    assert [each["name"] for each in atlas[0]["layers"]] == ["early", "late.0", STRANGE[0]]
    assert [each["units"] for each in atlas[0]["layers"]] == [len(rows) for _, rows in layers]
    assert sum(len(rows) for _, rows in layers) == UNITS
    assert [channel for channel, _, _ in layers[0][1]] == [0, 1, 2, 3, 4]
    assert [picture[0] for picture in layers[0][1][3][2]] == ["channel", "negative"]
    assert [title for channel, title, _ in layers[1][1] if channel is None] == list(STRANGE)
    pictures = [picture for _, rows in layers for _, _, some in rows for picture in some]
    assert len({picture[1] for picture in pictures}) == len(pictures) == UNITS + 5
    for picture in pictures:
        assert (whole / picture[1]).read_bytes() == (made / picture[1]).read_bytes()


def test_each_thumbnail_is_where_the_data_says(made: Path, whole: Path) -> None:
    (atlas,) = handed(whole, "atlas-*.js")
    sprites = [Image.open(whole / name).convert("RGB") for name in atlas[0]["sheets"]]
    assert [sheet.size for sheet in sprites] == [(16 * CELL_PX, 4 * CELL_PX)]  # 55: four rows
    for _, rows in handed(whole, "layer-*.js"):
        for _, _, pictures in rows:
            for _, file, place, color, *_ in pictures:
                left, top = place % 16 * CELL_PX, place // 16 * CELL_PX
                cell = sprites[0].crop((left, top, left + CELL_PX, top + CELL_PX))
                with Image.open(made / file) as picture:
                    wanted = picture.convert("RGB").resize((CELL_PX, CELL_PX))
                distance = np.asarray(cell, dtype=float) - np.asarray(wanted, dtype=float)
                assert abs(distance).mean() < 16  # two lossy codings; another texture is 50 away
                mean = np.asarray(wanted, dtype=float).mean(axis=(0, 1))
                told = [int(color[start : start + 2], 16) for start in (0, 2, 4)]
                assert abs(mean - told).max() < 8
    for sheet in sprites:
        sheet.close()


def test_exemplars_are_there_once_with_their_values(made: Path, store: Path, whole: Path) -> None:
    kept = {path.relative_to(made).as_posix(): path for path in made.glob("exemplars/*/*.webp")}
    there = {path.relative_to(whole).as_posix() for path in whole.glob("exemplars/*/*.webp")}
    assert there == kept.keys()
    assert len(kept) == len(PHOTOGRAPHS)
    first, _ = handed(whole, "units-*.js")[:2]
    for detail in (each for unit in first[2] for each in unit["pictures"]):
        score = detail["evidence"]["score"]
        assert [file for _, file, _ in detail["exemplars"]] == list(PHOTOGRAPHS)
        assert {name for name, _, _ in detail["exemplars"]} == there
        values = [value for _, _, value in detail["exemplars"]]
        assert values == pytest.approx([score / 2, score / 3], rel=1e-4)
    lost = sorted(kept)[0]
    (store / lost).unlink()
    written(store)
    (unit, *_) = handed(store / "site", "units-*.js")[0][2]
    names = [name for name, _, _ in unit["pictures"][0]["exemplars"]]
    assert sorted(str(name) for name in names) == ["None", sorted(kept)[1]]
    assert not (store / "site" / lost).exists()


def test_only_whole_copies_by_their_own_name_are_shown(store: Path) -> None:
    spoilt = min(store.glob("exemplars/*/*.webp"))
    spoilt.write_bytes(spoilt.read_bytes()[:-9])
    (store.parent / "secret.webp").write_bytes(b"secret")
    for path in (store / "evidence").rglob("*.json"):
        data = json.loads(path.read_text())
        if data["exemplars"]:
            data["exemplars"].append(["out.jpg", 1.0, "../../secret"])
            path.write_text(json.dumps(data))
    folder = written(store).folder
    assert spoilt.name not in {path.name for path in folder.rglob("*.webp")}
    (unit, *_) = handed(folder, "units-*.js")[0][2]
    named = {file: name for name, file, _ in unit["pictures"][0]["exemplars"]}
    assert "out.jpg" not in named
    assert sorted(map(bool, named.values())) == [False, True]


def test_details_are_those_of_the_unit(made: Path, whole: Path) -> None:
    (atlas,) = handed(whole, "atlas-*.js")
    chunks = {(layer, chunk): some for layer, chunk, some in handed(whole, "units-*.js")}
    assert sorted(chunks) == [(0, 0), (1, 0), (1, 1), (2, 0)]  # 43 units, 32 in a script
    for layer, rows in handed(whole, "layer-*.js"):
        for place, (_, _, pictures) in enumerate(rows):
            detail = chunks[layer, place // 32][place % 32]
            assert len(detail["pictures"]) == len(pictures)
            key = Path(pictures[0][1]).stem
            evidence = json.loads((made / "evidence" / key[:2] / f"{key}.json").read_text())
            told = detail["pictures"][0]["evidence"]
            assert told["score"] == pytest.approx(evidence["score"], rel=1e-5)  # 6 digits
            assert told.get("rank") == evidence["rank"]
            record = json.loads((made / "records" / key[:2] / f"{key}.json").read_text())
            assert detail["pictures"][0]["recipe"] == record["recipe"]
            assert len(detail["similar"]) == 8
            assert [layer, place] not in detail["similar"]
            for other, there in detail["similar"]:
                assert there < atlas[0]["layers"][other]["units"]


def test_a_long_course_is_thinned_and_says_so(store: Path) -> None:
    path = next((store / "records").rglob("*.json"))
    record = json.loads(path.read_text())
    record["course"] = [*map(float, range(600)), None]
    path.write_text(json.dumps(record))
    written(store)
    details = [each for _, _, some in handed(store / "site", "units-*.js") for each in some]
    pictures = [picture for each in details for picture in each["pictures"]]
    (found,) = [each for each in pictures if each["stride"] == 3]
    assert found["course"][:3] == [0, 3, 6]
    assert len(found["course"]) == 201


def test_nothing_in_a_page_or_script_is_left_unescaped(whole: Path) -> None:
    for path in [*whole.glob("*.html"), *(whole / "data").iterdir()]:
        text = path.read_text(encoding="utf-8")
        assert "<img src=x" not in text, path
        assert 'onerror="' not in text.replace('onerror=\\"', ""), path
        if path.suffix == ".js":
            assert not set("<>&\u2028\u2029") & set(text), path
    page = Tags((whole / "report.html").read_text(encoding="utf-8"))
    assert STRANGE[0] in page.text
    assert all(not name.startswith("on") for _, given in page.tags for name in given)
    assert {tag for tag, _ in page.tags}.isdisjoint({"img", "b", "script"})


def test_pages_ask_nobody_else_and_nothing_in_line(whole: Path) -> None:
    for page in whole.glob("*.html"):
        for tag, given in Tags(page.read_text(encoding="utf-8")).tags:
            assert "style" not in given, (page, tag)
            for name in ("src", "href"):
                target = given.get(name) or ""
                assert ":" not in target.partition("#")[0].partition("?")[0], target
                assert not target.startswith("/"), target
            if tag == "script":
                assert given["src"] is not None
                assert "type" not in given  # a module would not open from a folder
    for path in [*(whole / "static").iterdir()]:
        text = path.read_text(encoding="utf-8")
        without_names = text.replace("http://www.w3.org/2000/svg", "")
        assert "http" not in without_names, path
        assert not re.search(r"\bfetch\(|XMLHttpRequest|innerHTML|eval\(|\bimport\b", text), path


def test_what_cannot_be_read_is_left_out_and_named(store: Path) -> None:
    pictures = sorted((store / "pictures").rglob("*.png"))
    records = sorted((store / "records").rglob("*.json"))
    thumbnails = sorted((store / "thumbnails").rglob("*.webp"))
    pictures[0].write_bytes(pictures[0].read_bytes()[:-20])
    pictures[1].unlink()
    records[2].write_text("{")
    records[3].unlink()
    thumbnails[4].unlink()  # made again from the picture
    done = written(store)
    assert (done.units, done.pictures) == (UNITS - 4 + _negatives(store, range(4)), UNITS + 5 - 4)
    assert done.missing == 1
    names = [path.relative_to(store).as_posix() for path in (*pictures[:2], records[2])]
    assert sorted(done.damaged) == sorted(names)
    assert str(pictures[4].relative_to(store)) in contents(store / "site")
    report = (store / "site/report.html").read_text()
    assert "1 pictures of the plan are not made yet" in report
    assert "3 could not be read" in report


def _negatives(store: Path, places: range) -> int:
    """How many of the pictures in these places belong to units that have another one."""
    plan = json.loads((store / "plan.json").read_text())["entries"]
    gone = {sorted(f"{each['digest']}-0" for each in plan)[place] for place in places}
    left = {each["title"] for each in plan if f"{each['digest']}-0" not in gone}
    return 4 - len({each["title"] for each in plan} - left)


def test_a_store_without_a_plan_or_of_another_kind_is_refused(store: Path, tmp_path: Path) -> None:
    plan = store / "plan.json"
    plan.write_text(json.dumps({"format": 1, "entries": [{"digest": "x"}]}))
    assert_refused(command("site", store), "plan.json", "entries", "0.digest", "pattern")
    plan.unlink()
    assert_refused(command("site", store), "no plan.json", "featviz atlas")
    assert_refused(command("site", tmp_path), "no atlas.json")
    assert_refused(command("site", tmp_path / "nowhere"), "no atlas.json")
    assert not (tmp_path / "nowhere").exists()


def assert_refused(result: Result, *words: str) -> None:
    """Exit code 2 and one line with all the words."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    for word in words:
        assert word in line


def test_the_command_says_what_it_wrote(store: Path, tmp_path: Path) -> None:
    result = command("site", store)
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{UNITS} units, {UNITS + 5} pictures; ")
    assert second == str(store / "site/index.html")
    next((store / "pictures").rglob("*.png")).write_bytes(b"")
    result = command("site", store, "--out", tmp_path / "other")
    assert result.stderr.startswith("1 left out, not readable: pictures/")
    assert result.exit_code == 0
    assert (tmp_path / "other/index.html").is_file()


def test_writing_again_changes_nothing_and_a_smaller_plan_removes_what_is_stale(
    store: Path,
) -> None:
    before = written(store)
    first = contents(store / "site")
    times = {path: path.stat().st_mtime_ns for path in (store / "site").rglob("*.png")}
    assert written(store) == before
    assert contents(store / "site") == first
    assert {path: path.stat().st_mtime_ns for path in times} == times
    foreign = {"notes.txt": b"mine", "pictures/ab/mine.png": b"mine", "sheets/mine.webp": b"m"}
    for name, content in foreign.items():
        (store / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (store / "site" / name).write_bytes(content)
    plan = json.loads((store / "plan.json").read_text())
    plan["entries"] = [each for each in plan["entries"] if each["layer"] == "early"]
    (store / "plan.json").write_text(json.dumps(plan))
    after = written(store)
    left = contents(store / "site")
    assert (after.units, after.pictures) == (5, 10)
    assert {name: left.pop(name) for name in foreign} == foreign
    assert left.keys() == {*json.loads(left[MANIFEST])["files"], MANIFEST}
    assert sum(name.endswith(".png") for name in left) == 10
    assert after.files == len(left) - 1
    assert after.size == sum(map(len, left.values())) - len(left[MANIFEST])


def test_a_foreign_file_in_the_way_is_not_replaced(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "index.html").write_text("theirs")
    with pytest.raises(DoesNotFit, match=r"index\.html.*choose another --out"):
        write_site(Store.at(store), folder)
    assert (folder / "index.html").read_text() == "theirs"
    assert_refused(command("site", store, "--out", store), "the store itself")
    assert_refused(command("site", store, "--out", store / "plan.json"), "is a file")


def test_a_manifest_cannot_name_what_is_no_file_of_a_site(store: Path) -> None:
    written(store)
    victim = store / "site/../victim.png"
    victim.write_bytes(b"mine")
    manifest = store / "site" / MANIFEST
    listed = json.loads(manifest.read_text())
    listed["files"] += ["../victim.png", "pictures/../../victim.png", "/etc/hostname"]
    manifest.write_text(json.dumps(listed))
    written(store)
    assert victim.read_bytes() == b"mine"


def test_a_broken_build_is_gone_on_with(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unbroken = contents(write_site(Store.at(store), store / "unbroken").folder)

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featviz.atlas.site.write._write_pages", broken)
        patch.setattr("featviz.atlas.site.folder.WAITING_BYTES", 1000)
        with pytest.raises(KeyboardInterrupt):
            written(store)
    assert not (store / "site/index.html").exists()
    assert any((store / "site/pictures").rglob("*.png"))
    written(store)
    assert contents(store / "site") == unbroken


def test_numbers_of_strange_evidence_are_left_out() -> None:
    found = measured({"rank": "<b>", "z": float("nan"), "score": True, "references": 3}, 1.5)
    assert found == {"score": 1.5}
    found = measured({"rank": 2, "path_flag": False, "z": 1 / 3, "natural_best": "a.jpg"}, None)
    assert found == {"rank": 2, "path_flag": False, "z": 0.333333, "natural_best": "a.jpg"}
    assert number(12345678.9) == 12345700
    assert number(0.123456, digits=2) == 0.12


def test_scripts_are_json_without_dangerous_letters() -> None:
    value = {"a": "".join(STRANGE)}
    text = call("take", value, 3).decode()
    assert re.fullmatch(r"featviz\.take\(.*\);\n", text)
    assert json.loads(f"[{text[len('featviz.take(') : -3]}]") == [value, 3]
    assert safe('"<>&\u2028"') == r'"\u003c\u003e\u0026\u2028"'


def test_look_alikes_do_not_depend_on_where_things_are() -> None:
    rows, columns = np.mgrid[:64, :64] / 64.0
    lying, standing = np.sin(2 * np.pi * 3 * rows), np.sin(2 * np.pi * 3 * columns)
    shifted = np.sin(2 * np.pi * (3 * rows + 0.3))
    images = [np.stack([wave / 2 + 0.5] * 3, axis=2) for wave in (lying, standing, shifted)]
    red = images[0] * [1, 0.2, 0.2]
    found = np.stack([features(image) for image in (*images, red)])
    assert abs(found[0] - found[2]).max() < 0.05
    assert abs(found[0] - found[1]).max() > 0.5
    nearest = most_similar(found, 3)
    assert nearest[0] == [2, 1, 3] or nearest[0] == [2, 3, 1]
    assert nearest[2][0] == 0
    assert most_similar(found, 99) == most_similar(found, 3)
    assert most_similar(found, 1) == [each[:1] for each in nearest]


def test_of_equally_near_ones_the_first_come_first() -> None:
    found = np.zeros((300, 4), dtype=np.float32)
    found[7] = 1
    nearest = most_similar(found, 3)
    assert nearest[0] == [1, 2, 3]
    assert nearest[2] == [0, 1, 3]
    assert nearest[7] == [0, 1, 2]


def test_a_report_has_its_column_where_all_are_best(store: Path) -> None:
    for path in (store / "evidence").rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "rank": 0}))
    page = (written(store).folder / "report.html").read_text(encoding="utf-8")
    assert re.search(r"<thead>.*<th[^>]*>Rank<", page)


def test_many_thumbnails_are_several_sheets_and_odd_ones_are_padded() -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 16), (255, 0, 0)).save(file, format="PNG")
    first, second = sheets([file.getvalue()] * 257)
    with Image.open(io.BytesIO(first)) as one, Image.open(io.BytesIO(second)) as two:
        assert (one.size, two.size) == ((1024, 1024), (1024, 64))
        red, green, _ = two.convert("RGB").getpixel((32, 32))  # type: ignore[misc]
        assert red > 230 > 30 > green
        beside = two.convert("RGB").getpixel((32, 5))
        assert beside == pytest.approx((128, 128, 128), abs=6)  # lossy
    assert mean_color(np.array([[[1.0, 0.0, 0.5]]])) == "ff0080"


def test_the_report_has_the_distributions_and_the_worst_first(made: Path, whole: Path) -> None:
    page = (whole / "report.html").read_text(encoding="utf-8")
    evidence = {}
    for entry in json.loads((made / "plan.json").read_text())["entries"]:
        if entry["technique"] != "negative":
            key = f"{entry['digest']}-0"
            known = json.loads((made / "evidence" / key[:2] / f"{key}.json").read_text())
            verdict = json.loads((made / "records" / key[:2] / f"{key}.json").read_text())
            evidence[entry["title"]] = known | {"verdict": verdict["verdict"]}
    alive = {title: each for title, each in evidence.items() if each["verdict"] == "rendered"}
    order = sorted(alive, key=lambda title: alive[title]["held_out_ratio"])
    listed = page.partition("Lowest held-out ratio")[2].partition("</section>")[0]
    told = re.findall(r'<span class="figure">([^<]*)</span>', listed)
    assert told == [f"{alive[title]['held_out_ratio']:.4g}" for title in order[:24]]
    ranks = [each["rank"] for each in evidence.values() if each["rank"] is not None]
    total = page.partition('<tr class="total">')[2]
    assert f"<td>{100 * sum(rank == 0 for rank in ranks) / len(ranks):.0f} %</td>" in total
    assert page.index("<h2>Dead") < page.index("<h2>Highest rank")
    assert "index.html#/unit/late.0/36" in page


def test_the_address_of_a_unit_has_its_names_quoted() -> None:
    from featviz.atlas.site.content import ShownUnit

    assert unit_link(ShownUnit("a/b", 3, "")) == "index.html#/unit/a%2Fb/3"
    assert unit_link(ShownUnit("", None, "x & y/z")) == "index.html#/named//x%20%26%20y%2Fz"


@pytest.fixture
def ask(whole: Path, tmp_path: Path) -> Iterator[Callable[[bytes], tuple[int, str, bytes]]]:
    """Sends bytes to a server of the site; gives status, headers and body."""
    folder = shutil.copytree(whole, tmp_path / "served")
    (tmp_path / "secret.html").write_text("secret")
    (folder / ".hidden.html").write_text("secret")
    (folder / ".git").mkdir()
    (folder / ".git/config.html").write_text("secret")
    (folder / "notes.txt").write_text("secret")
    (folder / "out.html").symlink_to(tmp_path / "secret.html")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "inside.html").symlink_to(folder / ".hidden.html")
    with SiteServer(folder, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()

        def send(request: bytes) -> tuple[int, str, bytes]:
            with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as line:
                line.sendall(request)
                line.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: line.recv(65536), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            return int(head.split()[1]), head.decode(), body

        yield send
        server.shutdown()
        thread.join()


Ask = Callable[[bytes], tuple[int, str, bytes]]


def test_the_server_gives_the_files_with_safe_headers(ask: Ask, whole: Path) -> None:
    status, head, body = ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert status == 200
    assert body == (whole / "index.html").read_bytes()
    assert "Content-Type: text/html; charset=utf-8" in head
    assert "Cache-Control: no-cache" in head
    policy = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    assert policy in head
    assert "unsafe" not in head
    for line in (
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin",
    ):
        assert line in head
    kinds = {"data": "text/javascript", "sheets": "image/webp", "pictures": "image/png"}
    name = ""
    for folder, kind in kinds.items():
        path = next(each for each in (whole / folder).rglob("*.*"))
        name = path.relative_to(whole).as_posix()
        status, head, body = ask(f"GET /{name}?x=1 HTTP/1.0\r\n\r\n".encode())
        assert (status, body) == (200, path.read_bytes())
        assert f"Content-Type: {kind}" in head
        assert ("immutable" in head) == (folder != "pictures")
    tag = re.findall('ETag: (".*")', head)[0]
    status, head, body = ask(f"GET /{name} HTTP/1.0\r\nIf-None-Match: {tag}\r\n\r\n".encode())
    assert (status, body) == (304, b"")
    status, head, body = ask(b"HEAD /report.html HTTP/1.0\r\n\r\n")
    assert (status, body) == (200, b"")
    assert f"Content-Length: {(whole / 'report.html').stat().st_size}" in head


@pytest.mark.parametrize(
    "target",
    [
        *("/../secret.html", "/%2e%2e/secret.html", "/..%2fsecret.html", "/%2e%2e%2fsecret.html"),
        *("/static/../../secret.html", "/static/..", "//secret.html", "/\\..\\secret.html"),
        *("/..%5csecret.html", "/%00index.html", "/index.html%00", "/index.html/", "/./index.html"),
        *("/%c0%ae%c0%ae/secret.html", "/%252e%252e/secret.html", "http://x/../secret.html"),
        *("/.hidden.html", "/.git/config.html", "/%2egit/config.html", "/out.html"),
        *("/outside/secret.html", "/inside.html", "/notes.txt", "/static", "/static/"),
        *("/pictures/", "/nothing.html", "/featviz-site.json", "*", "index.html", "/" + "a" * 5000),
        *("http://[x/index.html", "/etc/hostname", "//etc/hostname"),
    ],
)
def test_the_server_gives_nothing_else(ask: Ask, target: str) -> None:
    status, head, body = ask(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert status in (400, 404)
    assert b"secret" not in body
    assert "Content-Security-Policy" in head
    assert "text/plain" in head


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]
)
def test_the_server_only_reads(ask: Ask, method: str) -> None:
    body = "GET /index.html HTTP/1.1\r\n\r\n"  # not taken for a second request
    request = f"{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    status, head, answer = ask(request.encode())
    assert status == HTTPStatus.METHOD_NOT_ALLOWED
    assert "Allow: GET, HEAD" in head
    assert answer == b"405 Method Not Allowed\n"


@pytest.mark.parametrize(
    "request_", [b"nonsense\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\n"]
)
def test_nonsense_is_answered_or_ignored(ask: Ask, request_: bytes) -> None:
    try:
        status, _, body = ask(request_)
    except (IndexError, ValueError):  # no answer at all, or one of before HTTP/1.0
        return
    assert status in (400, 501)
    assert b"<" not in body


def test_a_browser_that_goes_away_is_no_error(
    whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SiteServer(whole, host="127.0.0.1", port=0) as server:
        for error in (ConnectionResetError(), BrokenPipeError()):
            try:
                raise error
            except OSError:
                server.handle_error(None, ("127.0.0.1", 1))
        assert capsys.readouterr().err == ""
        try:
            raise ValueError("wrong")
        except ValueError:
            server.handle_error(None, ("127.0.0.1", 1))
        assert "ValueError: wrong" in capsys.readouterr().err


def test_the_served_folder_may_be_reached_by_a_link(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(whole)
    with SiteServer(tmp_path / "link", host="127.0.0.1", port=0) as server:
        assert server.server_address[0] == "127.0.0.1"
    assert file_of(whole.resolve(), "/") == whole.resolve() / "index.html"


def test_a_port_in_use_and_a_folder_without_a_site_are_one_line(
    whole: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command("serve", whole, "--port", port)
        assert_refused(result, f"port {port}", "address already in use", "--port")
        with pytest.raises(NotAvailable, match="choose another"):
            SiteServer(whole, host="127.0.0.1", port=port)
    assert_refused(command("serve", tmp_path), "featviz site")
    assert_refused(command("serve", tmp_path / "no"), "no such folder")
    assert_refused(command("serve", whole, "--port", "99999"), "99999")
    assert_refused(command("serve", whole, "--host", "no.such.host.invalid"), "no.such.host")


def test_serving_finds_the_site_of_a_store_and_ends_with_an_interrupt(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(store)

    def interrupted(self: SiteServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SiteServer, "serve_forever", interrupted)
    result = command("serve", store, "--port", 0)
    assert result.exit_code == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/  \(Ctrl-C ends\)\n", result.stdout)
    assert isinstance(serve, click.Command)
