"""The site in a browser, from its folder and from our server: what one sees, clicks and types."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

from commands import printed
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.site import (
    CHROMIUM,
    IS_WHOLE,
    MadeLayer,
    Transferred,
    make_store,
    opened,
)
from featviz.atlas.site.write import write_site
from featviz.atlas.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Debian's chromium at {CHROMIUM}"),
]

STRANGE = '</script><img src=x onerror="window.hurt=1">\u2028 & "b"'
LAYERS = (
    MadeLayer("early", 12, ("channel", "negative"), exemplars=("cat.jpg", STRANGE)),
    MadeLayer("mid/deep", 60, ("channel",), (STRANGE, "12")),
    MadeLayer("late", 700),
    MadeLayer(STRANGE, 3),
)
UNITS = 12 + 60 + 2 + 700 + 3


@dataclass
class Shown:
    """A page of the site, what it fetched, what it complained about."""

    page: Page
    address: str
    transferred: Transferred
    complaints: list[str]

    def tile(self, label: str) -> Any:
        return self.page.locator(f'.tile[aria-label^="Picture of {label}"]')

    def go(self, route: str) -> None:
        """Changes the address as a link does."""
        self.page.evaluate("(route) => { location.hash = route; }", route)

    def wait(self) -> None:
        self.page.wait_for_function(IS_WHOLE)

    def until(self, expression: str) -> None:
        """Waits; as a function, which a page that evaluates no strings allows too."""
        self.page.wait_for_function(f"() => {expression}")

    def captions(self, count: int) -> list[str]:
        """Of the first tiles that are there, from the top left."""
        return self.page.evaluate(CAPTIONS, count)


CAPTIONS = """(count) => [...document.querySelectorAll(".tile")]
  .map((tile) => [tile.getBoundingClientRect(), tile.dataset.caption])
  .sort(([one], [other]) => one.top - other.top || one.left - other.left)
  .slice(0, count).map(([, caption]) => caption)"""


HEADED = "(title) => document.querySelector('h1')?.textContent === title"
"""Whether the page has this title."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown") / "store"
    make_store(folder, LAYERS, size=16)
    write_site(Store.at(folder), folder / "site")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def showing(browser: Browser, site: Path, start: str = "file", **options: Any) -> Iterator[Shown]:
    """The walls, opened; afterwards nothing was complained about and nobody else was asked."""
    settings: Any = {"viewport": {"width": 1280, "height": 800}, **options}
    context = browser.new_context(**settings)
    if start == "serve":
        context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    with opened(site, start) as address:
        shown = Shown(page, address, Transferred.by(page, site, address), [])
        page.on(
            "console",
            lambda said: shown.complaints.append(said.text) if said.type != "log" else None,
        )
        page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        page.on(
            "requestfailed",
            lambda request: (  # a page that is left ends what it still waits for
                shown.complaints.append(request.url)
                if "ABORTED" not in str(request.failure)
                else None
            ),
        )
        page.goto(address)
        shown.wait()
        yield shown
        assert page.evaluate("window.hurt") is None
        assert shown.complaints == []
        base = address.removesuffix("index.html")
        assert [each for each in shown.transferred.addresses if not each.startswith(base)] == []
        context.close()


@pytest.mark.parametrize("start", ["file", "serve"])
@pytest.mark.parametrize("width", [1280, 390])
def test_one_walks_from_the_wall_to_a_copied_recipe(
    browser: Browser, store: Path, start: str, width: int
) -> None:
    with showing(browser, store / "site", start, viewport={"width": width, "height": 800}) as shown:
        page = shown.page
        assert page.locator(".status").inner_text() == f"{UNITS} units in 4 layers"
        page.locator('select[name="technique"]').select_option("negative")
        shown.until("document.querySelector('.status').textContent.startsWith('12 of')")
        page.locator('select[name="technique"]').select_option("")
        page.locator('select[name="rank"]').select_option("not-top-1")
        shown.until("/^\\d+ of 777 units$/.test(document.querySelector('.status').textContent)")
        shown.wait()
        first = page.locator(".tile").first
        route = first.get_attribute("href") or ""
        first.click()
        page.wait_for_selector(".evidence")
        assert page.url.endswith(route)
        assert int(page.locator('[data-measure="rank"] .value').inner_text()) > 0
        page.locator(".compare-toggle").click()
        page.locator('a[data-key="ArrowRight"]').click()
        shown.until(f"!location.hash.endsWith({route[-4:]!r})")
        page.wait_for_selector(".compare-toggle:text-is('Compare')")
        page.locator(".compare-toggle").click()
        page.locator("#tray .strong").click()
        page.wait_for_selector(".side-by-side")
        assert page.locator(".side-by-side thead a").count() == 2
        assert (
            page.locator(".side-by-side img").first.evaluate(
                "(i) => i.decode().then(() => i.naturalWidth)"
            )
            == 16
        )
        page.locator(".side-by-side thead a").first.click()
        page.wait_for_selector(".evidence")
        assert page.url.endswith(route)
        page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
        page.locator(".copy", has_text="Copy recipe").click()
        shown.until("window.copied !== undefined")
        recipe = json.loads(page.evaluate("window.copied"))
        assert recipe["is"] == "Recipe"
        page.locator(".copy", has_text="Copy command").click()
        shown.until("window.copied.startsWith('featviz')")
        words = page.evaluate("window.copied").split()
        assert words[:3] == ["featviz", "render", "--recipe"]
        assert (store / words[3]).is_file()
        assert (store / "site" / words[3]).is_file()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_best_natural_images_stand_on_the_page(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        shown.go("#/unit/early/3")
        page.wait_for_selector(".exemplars img")
        images = page.locator(".exemplars img")
        alts = [images.nth(place).get_attribute("alt") for place in range(images.count())]
        assert alts == ["Reference image cat.jpg", f"Reference image {STRANGE}"]
        widths = "(all) => Promise.all(all.map((i) => i.decode().then(() => i.naturalWidth)))"
        assert images.evaluate_all(widths) == [128, 128]
        assert "pink-512" in page.locator(".exemplars .note").inner_text()
        shown.go("#/unit/late/3")
        page.wait_for_function(HEADED, arg="late:3")
        assert page.locator(".exemplars").count() == 0


def test_marks_of_tiles_are_explained_where_there_are_any(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        words = " ".join(shown.page.locator(".walls > .note").all_inner_texts())
        assert "Red: no picture came about." in words
        assert "Dot: earlier layers" in words


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a real atlas, of a unit with many pictures."""
    folder = tmp_path_factory.mktemp("atlas")
    config = folder / "a.toml"
    config.write_text(
        "network = 'planted'\nunits = ['line/pre:3', 'line:3']\nsize = 48\nsteps = 2\n"
        "seeds = [0, 9]\ntechniques = ['diversity', 'channel']\ndiversity = { count = 2 }\n"
    )
    printed("atlas", config, "--no-evidence", "--out", folder / "store")
    return write_site(Store.at(folder / "store"), folder / "store" / "site").folder


def test_captions_tell_the_pictures_of_a_unit_apart(browser: Browser, atlas: Path) -> None:
    sets = [f"diversity · {n} of 2 · seed {seed}" for seed in (0, 9) for n in (1, 2)]
    channels = [f"channel · seed {seed}" for seed in (0, 9)]
    with showing(browser, atlas) as shown:
        shown.go("#/unit/line/3")
        shown.page.wait_for_selector(".picture figcaption")
        captions = shown.page.locator(".picture figcaption").all_inner_texts()
        words = [caption.split("\n")[0] for caption in captions]
        assert sorted(words[:2]) == channels  # of what leaves the unit, before what enters it
        expected = [*channels, *sets]
        assert sorted(words) == sorted([*expected, *(f"{each} · line/pre:3" for each in expected)])


def test_copying_works_where_the_clipboard_is_not_to_be_had(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        shown.go("#/unit/early/3")
        shown.page.wait_for_selector(".evidence")
        shown.page.evaluate(
            """() => {
              Object.defineProperty(navigator, "clipboard", { value: undefined });
              document.addEventListener("copy", () => { window.taken = String(getSelection()
                || document.activeElement.value); });
            }"""
        )
        shown.page.locator(".copy", has_text="Copy command").click()
        shown.until("window.taken !== undefined")
        assert shown.page.evaluate("window.taken").startswith("featviz render")
        assert shown.page.locator("textarea").count() == 0


def test_the_first_wall_is_small_and_scrolling_keeps_few_elements(
    browser: Browser, store: Path
) -> None:
    with showing(browser, store / "site") as shown:
        page, transferred = shown.page, shown.transferred
        assert transferred.size < 5e6
        assert len(transferred.addresses) < 30
        assert sum(".webp" in each for each in transferred.addresses) <= 3
        seen: set[str] = set()
        most = 0
        while True:
            shown.wait()
            seen |= set(page.evaluate("[...document.querySelectorAll('.tile')].map((t) => t.href)"))
            most = max(most, page.evaluate("document.querySelectorAll('*').length"))
            if page.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
                break
            page.evaluate("window.scrollBy(0, 500)")
            page.wait_for_timeout(30)
        assert len(seen) == UNITS
        assert most < 700
        assert len(transferred.addresses) == len(set(transferred.addresses))
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(100)
        assert page.evaluate("document.querySelectorAll('*').length") < 700


def test_a_tile_shows_its_own_picture(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        shown.page.wait_for_timeout(100)  # painted
        with Image.open(io.BytesIO(shown.page.screenshot())) as image:
            screen = np.asarray(image.convert("RGB"), dtype=float)
        tiles = shown.page.evaluate(
            """() => [...document.querySelectorAll(".tile:not(.failed)")].map((tile) => {
              const box = tile.getBoundingClientRect();
              return [tile.dataset.file, Math.round(box.left), Math.round(box.top)];
            })"""
        )
        whole = [each for each in tiles if each[2] + 64 <= 800]
        assert len(whole) > 60
        for file, left, top in whole:
            with Image.open(store / file) as picture:
                wanted = picture.convert("RGB").resize((64, 64), Image.Resampling.LANCZOS)
            distance = screen[top : top + 64, left : left + 64] - np.asarray(wanted, dtype=float)
            assert abs(distance[12:-12, 12:-12]).mean() < 20  # another texture is 50 away


def test_a_late_sheet_paints_no_tile_that_shows_something_else_by_now(
    browser: Browser, store: Path
) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        page.add_init_script(
            """(() => {
              const decode = HTMLImageElement.prototype.decode;
              HTMLImageElement.prototype.decode = async function () {
                await decode.call(this);
                if (this.src.includes("/0000-")) await new Promise((done) => setTimeout(done, 500));
              };
            })()"""
        )
        page.reload()
        page.wait_for_selector(".tile")
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_timeout(900)
        shown.wait()
        wrong = page.evaluate(
            """() => {
              const units = featviz.layers.flat();
              const pictures = new Map(units.flatMap((unit) => unit.pictures)
                .map((picture) => [picture.file, picture]));
              const sheet = (picture) => featviz.atlas.sheets[Math.floor(picture.thumbnail / 256)];
              return [...document.querySelectorAll(".tile")].filter((tile) =>
                !tile.style.backgroundImage.includes(sheet(pictures.get(tile.dataset.file))))
                .map((tile) => tile.href);
            }"""
        )
        assert wrong == []


def test_the_focus_stays_when_the_window_changes(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        for key in ("ArrowDown", "ArrowRight"):
            page.keyboard.press(key)
        page.set_viewport_size({"width": 900, "height": 700})
        page.wait_for_timeout(200)
        assert page.evaluate("document.activeElement.dataset.caption") == "1"
        assert page.locator(".tile:focus").count() == 1


def test_sorting_and_filtering_order_the_walls(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        page.locator('select[name="sort"]').select_option("held_out_ratio")
        page.wait_for_selector('select[name="order"]')
        shown.wait()
        values = [float(each.split(": ")[1]) for each in shown.captions(12)]
        assert values == sorted(values, reverse=True)
        page.locator('select[name="order"]').select_option("up")
        shown.wait()
        values = [float(each.split(": ")[1]) for each in shown.captions(12)]
        assert values == sorted(values)
        shown.go("#/?verdict=dead")
        shown.until("document.querySelectorAll('.tile').length === 19")  # channels 36, 73, ...
        shown.go("#/?layer=late&flag=flagged")
        shown.until(
            "document.querySelector('.status').textContent === '63 of 777 units'"
        )  # every eleventh of 700
        assert page.locator(".layer-head").count() == 1
        shown.go("#/?layer=none")
        shown.until("document.querySelector('.status').textContent.startsWith('No unit')")
        shown.go("#/?tile=128")
        shown.wait()
        assert page.locator(".tile").first.bounding_box()["width"] == 128  # type: ignore[index]
        shown.page.go_back()
        shown.until("document.querySelector('.status').textContent.startsWith('No unit')")


def test_a_filtered_wall_is_there_before_its_last_layer(browser: Browser, store: Path) -> None:
    narrow: Any = {"width": 390, "height": 500}  # the long layer begins far below
    with showing(browser, store / "site", "serve", viewport=narrow) as shown:
        page = shown.page
        long: list[Any] = []
        last: list[Any] = []
        page.route("**/data/layer-002*", lambda route: long.append(route))
        page.route("**/data/layer-003*", lambda route: last.append(route))
        page.goto("about:blank")
        page.goto(f"{shown.address}#/?verdict=rendered&tile=128", wait_until="commit")
        shown.until("document.querySelectorAll('.tile').length > 0")
        while not (long and last):
            page.wait_for_timeout(20)
        long[0].continue_()
        shown.until("featviz.layers[2] !== undefined")
        page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        shown.until("document.querySelector('.tile[href*=\"/late/699\"]') !== null")
        last[0].continue_()
        shown.until("document.querySelector('.status').textContent === '758 of 777 units'")


def test_keys_lead_everywhere(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        at = "document.activeElement.dataset.caption"
        page.keyboard.press("ArrowDown")
        assert page.evaluate(at) == "0"
        for key, caption in (("ArrowRight", "1"), ("End", "11"), ("ArrowLeft", "10")):
            page.keyboard.press(key)
            assert page.evaluate(at) == caption
        page.keyboard.press("ArrowDown")  # early has one row: the tenth of the next layer
        assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
            "Picture of mid/deep:10"
        )
        page.keyboard.press("c")
        assert page.locator("#tray .chip").count() == 1
        page.keyboard.press("Enter")
        page.wait_for_selector(".evidence")
        assert page.url.endswith("#/unit/mid%2Fdeep/10")
        page.keyboard.press("ArrowRight")
        shown.until("document.querySelector('h1')?.textContent === 'mid/deep:11'")
        page.keyboard.press("c")
        assert page.locator("#tray .chip").count() == 2
        page.keyboard.press("Escape")
        page.wait_for_selector(".tile")
        shown.wait()
        assert page.evaluate(at) == "11"  # where one came from
        for _ in range(12):
            page.keyboard.press("ArrowDown")
        assert page.evaluate(
            "(() => { const box = document.activeElement.getBoundingClientRect();"
            " return box.top > 40 && box.bottom < innerHeight; })()"
        )


def test_search_is_all_keys_and_the_whole_text_counts(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.id") == "search"
        page.keyboard.type("late:69")
        shown.until("document.querySelector('#found li')?.textContent === 'late:69'")
        page.keyboard.press("ArrowDown")
        assert page.locator('#found [aria-selected="true"]').inner_text() == "late:690"
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        shown.until("document.querySelector('h1')?.textContent === 'late:69'")
        page.evaluate(
            """() => {
              const units_of = featviz.units_of;
              featviz.units_of = async (number) => {
                await new Promise((done) => setTimeout(done, 200));
                return units_of(number);
              };
            }"""
        )
        page.keyboard.press("/")
        page.keyboard.type("late:70")
        page.keyboard.press("Enter")  # before the list is there
        shown.until("document.querySelector('h1')?.textContent === 'late:70'")
        page.keyboard.press("/")
        page.keyboard.type("c")  # a letter here, not the key
        page.keyboard.press("Escape")
        assert page.locator("#tray .chip").count() == 0
        assert page.evaluate("document.activeElement === document.body")


def test_search_finds_layers_and_titles(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        field = page.locator("#search")
        field.fill("onerror")
        page.wait_for_selector("#found li")
        found = page.locator("#found li").all_inner_texts()
        assert len(found) == 2  # the layer and the direction of that name
        assert page.locator("#found img").count() == 0
        field.fill("LATE")
        shown.until("document.querySelector('#found li').textContent.startsWith('late')")
        page.keyboard.press("Enter")
        shown.until("document.querySelector('[aria-current=location] b').textContent === 'late'")
        field.fill("no such thing")
        page.wait_for_selector("#found .none")
        page.keyboard.press("Enter")
        assert field.input_value() == "no such thing"


def test_addresses_stay_and_strange_names_are_harmless(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        shown.go("#/unit/early/3")
        shown.until("document.querySelector('h1')?.textContent === 'early:3'")
        assert page.locator(".pictures img").count() == 2
        page.locator(".choose").nth(1).click()
        assert page.locator(".about h2").first.inner_text() == "Evidence: negative"
        shown.go("#/named/mid%2Fdeep/12")  # a direction, not channel 12
        shown.until("document.querySelector('h1')?.textContent === '12'")
        page.evaluate(
            "(title) => { location.hash = '#/named/mid%2Fdeep/' + encodeURIComponent(title); }",
            STRANGE,
        )
        page.wait_for_function(HEADED, arg=STRANGE)
        assert page.locator("img[src=x]").count() == 0
        assert page.locator('[data-kind="near"] .mini').count() == 5 + 1
        shown.until("document.querySelectorAll('[data-kind=similar] .mini').length === 8")
        page.evaluate(
            "(layer) => { location.hash = '#/unit/' + encodeURIComponent(layer) + '/1'; }", STRANGE
        )
        page.wait_for_function(HEADED, arg=f"{STRANGE}:1")
        page.reload()
        page.wait_for_selector(".evidence")
        for route in (
            "#/unit/early/99",
            "#/unit/nothing/1",
            "#/named/early/x",
            "#/unit/%E0%A4%A/1",
        ):
            shown.go(route)
            shown.until("document.querySelector('h1')?.textContent === 'Not here'")
            shown.go("#/unit/early/3")
            page.wait_for_selector(".evidence")


def test_at_most_four_are_compared(browser: Browser, store: Path) -> None:
    with showing(browser, store / "site") as shown:
        page = shown.page
        for label in ("early:0", "early:1", "early:2", "early:4", "early:5"):
            shown.tile(f"{label},").click(modifiers=["Shift"])
        assert page.locator("#tray .chip").count() == 4
        assert page.locator(".tile.chosen").count() == 4
        shown.tile("early:1,").click(modifiers=["Shift"])
        assert page.locator("#tray .chip").count() == 3
        page.locator("#tray .strong").click()
        page.wait_for_selector(".side-by-side")
        names = page.locator(".side-by-side thead a").all_inner_texts()
        assert names == ["early:0", "early:2", "early:4"]
        shown.go("#/compare")
        shown.until("document.querySelector('h1')?.textContent === 'Nothing to compare'")


def test_pages_have_names_alternatives_and_the_colors_asked_for(
    browser: Browser, store: Path
) -> None:
    grounds = set()
    for scheme in ("light", "dark"):
        with showing(browser, store / "site", color_scheme=scheme) as shown:
            page = shown.page
            grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.evaluate(NAMELESS) == []
            shown.go("#/unit/early/3")
            page.wait_for_selector(".evidence")
            page.wait_for_selector("[data-kind=similar] .mini")
            assert page.evaluate(NAMELESS) == []
            page.goto(shown.address.removesuffix("index.html") + "report.html")
            assert page.evaluate(NAMELESS) == []
            page.locator(".worst a").first.click()
            page.wait_for_selector(".evidence")
    assert len(grounds) == 2


NAMELESS = """[...document.querySelectorAll("img, [role=img], a, button, select, input")]
  .filter((each) => each.tagName === "IMG" ? !each.alt
    : !(each.getAttribute("aria-label") || each.textContent.trim() || each.closest("label")))
  .map((each) => each.outerHTML.slice(0, 120))"""
"""What a reader of the screen could not name."""


def test_a_script_that_is_gone_is_said(browser: Browser, store: Path, tmp_path: Path) -> None:
    site = write_site(Store.at(store), tmp_path / "site").folder
    for path in (site / "data").glob("units-000-*.js"):
        path.unlink()
    with showing(browser, site) as shown:
        shown.go("#/unit/early/3")
        shown.until("document.querySelector('h1')?.textContent === 'Not here'")
        assert "cannot be loaded" in shown.page.locator("#page").inner_text()
        shown.complaints.clear()
