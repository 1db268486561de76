"""The site of an atlas of 6,000 units: seconds and bytes of writing it, and how it behaves.

The store is made up: textures for pictures, numbers for evidence. With Playwright and Chromium it
measures the first wall and a scroll through everything. The tests use the same made-up stores.
"""

import argparse
import hashlib
import io
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import featviz
from benchmarks.machine import line, write_result
from featviz.atlas.exemplars import exemplar_name
from featviz.atlas.record import Record, sha256
from featviz.atlas.site.server import SiteServer
from featviz.atlas.site.write import write_site
from featviz.atlas.store import FORMAT, HEAD, LAYERS, PLAN, Store, evidence_name, file_of
from featviz.engine.recipe import default_recipe

CHROMIUM = Path("/usr/bin/chromium")
CHANNELS = (32, 16, 24, 24, 40, 40, 80, 80, 80, 112, 112, 112, 192, 192, 192, 192, 320, 1280)
"""Of the layers of a network such as ours, repeated until there are enough units."""
SCROLLS_PX_A_FRAME = {"fast": 1600, "all": 240, "again": 240}
"""A hard flick is some 100 px a frame, and two screens a frame is faster than anyone looks."""


@dataclass(frozen=True)
class MadeLayer:
    """A layer of a made-up store; `titles` are of directions in it, `exemplars` files of reference
    images."""

    name: str
    channels: int
    techniques: tuple[str, ...] = ("channel",)
    titles: tuple[str, ...] = ()
    exemplars: tuple[str, ...] = ()


def main() -> None:
    """Makes a store, writes its site, looks at it, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=6000)
    parser.add_argument("--size", type=int, default=96, help="Of the pictures, pixels.")
    parser.add_argument("--no-browser", action="store_true")
    parser.add_argument("--out", type=Path, help="[benchmarks/results/site-DATE.json]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="featviz-site-") as place:
        folder = Path(place) / "store"
        make_store(folder, layers_of(options.units), size=options.size)
        content: dict[str, Any] = {"written": measure_writing(folder)}
        print(line(content["written"]), flush=True)
        if not options.no_browser:
            for start in ("file", "serve"):
                content[start] = measure_browsing(folder / "site", start)
                print(line({"opened from": start, **content[start]}), flush=True)
                for name, each in content[start]["scrolls"].items():
                    print(line({"scroll": name, **each}), flush=True)
    settings = {"units": options.units, "size": options.size}
    write_result("site", torch.device("cpu"), {"settings": settings, **content}, out=options.out)


def layers_of(units: int) -> list[MadeLayer]:
    """Layers with so many channels in all."""
    layers: list[MadeLayer] = []
    while units > 0:
        channels = min(units, CHANNELS[len(layers) % len(CHANNELS)])
        layers.append(MadeLayer(f"blocks.{len(layers)}", channels))
        units -= channels
    return layers


def measure_writing(store: Path) -> dict[str, Any]:
    """Seconds of the first and of a second writing, files, bytes by kind."""
    start = time.perf_counter()
    site = write_site(Store.at(store), store / "site")
    first_s = time.perf_counter() - start
    start = time.perf_counter()
    write_site(Store.at(store), store / "site")
    again_s = time.perf_counter() - start
    kinds = {
        f"{kind}_bytes": sum(path.stat().st_size for path in (site.folder / kind).rglob("*.*"))
        for kind in ("pictures", "sheets", "data", "static")
    }
    counts = {"units": site.units, "files": site.files, "bytes": site.size}
    return {**counts, "write_s": first_s, "rewrite_s": again_s, **kinds}


@contextmanager
def browser_page(*, width: int = 1280, height: int = 800, **options: Any) -> Iterator[Any]:
    """A page of Debian's Chromium, which Playwright drives."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--enable-precise-memory-info", "--js-flags=--expose-gc"],
        )
        yield browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
        browser.close()


@contextmanager
def opened(site: Path, start: str) -> Iterator[str]:
    """The address of a site's index: "file", or "serve" for our server."""
    if start == "file":
        yield (site / "index.html").resolve().as_uri()
        return
    with SiteServer(site, host="127.0.0.1", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Transferred:
    """What a page has fetched: its addresses, and their bytes by the files' sizes."""

    site: Path
    base: str
    addresses: list[str]

    @classmethod
    def by(cls, page: Any, site: Path, base: str) -> "Transferred":
        """What a page fetches from now on."""
        found = cls(site, base, [])
        page.on("request", lambda request: found.addresses.append(request.url))
        return found

    @property
    def size(self) -> int:
        """Bytes of the files, without headers."""
        names = (each.removeprefix(self.base.removesuffix("index.html")) for each in self.addresses)
        files = (self.site / (name or "index.html") for name in names)
        return sum(path.stat().st_size for path in files)


def measure_browsing(site: Path, start: str) -> dict[str, Any]:
    """The first wall, then a scroll through everything."""
    with browser_page() as page, opened(site, start) as address:
        transferred = Transferred.by(page, site, address)
        begun = time.perf_counter()
        page.goto(address)
        page.wait_for_function(IS_WHOLE)
        wall_s = time.perf_counter() - begun
        first = {
            "first_wall_s": wall_s,
            "first_requests": len(transferred.addresses),
            "first_bytes": transferred.size,
            **_state(page, "before"),
        }
        scrolls = {}
        for name, px in SCROLLS_PX_A_FRAME.items():
            scrolls[name] = {"px_a_frame": px, **page.evaluate(SCROLL_THROUGH, px)}
            page.evaluate("window.scrollTo(0, 0)")
            page.wait_for_function(IS_WHOLE)
            scrolls[name] |= _state(page, "after")
        return {**first, "all_bytes": transferred.size, "scrolls": scrolls}


def _state(page: Any, when: str) -> dict[str, int]:
    page.evaluate("window.gc && window.gc()")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    heap = page.evaluate("performance.memory.usedJSHeapSize")
    return {f"nodes_{when}": nodes, f"heap_bytes_{when}": heap}


IS_WHOLE = """() => {
  const tiles = [...document.querySelectorAll(".tile")];
  return tiles.length > 0 && tiles.every((tile) => "ready" in tile.dataset);
}"""
"""Whether every tile there is has its picture."""

SCROLL_THROUGH = """async (px) => {
  const blank_since = new Map();
  const seen = new Set();
  let longest = 0, frames = 0, most_nodes = 0;
  const begun = performance.now();
  const space = document.querySelector(".space");
  const blanks_now = () => {
    const blanks = new Set();
    const boxes = [];
    for (const each of document.querySelectorAll(".tile, .layer-head")) {
      const box = each.getBoundingClientRect();
      if (box.bottom < 44 || box.top > innerHeight) continue;
      boxes.push(box);
      if (!each.matches(".tile")) continue;
      seen.add(each.dataset.file);
      if (!("ready" in each.dataset)) blanks.add(each.dataset.file);
    }
    // a stripe without any tile or head that is higher than what lies between two rows
    const all = space.getBoundingClientRect();
    let covered = Math.max(44, all.top);
    for (const box of boxes.sort((one, other) => one.top - other.top)) {
      if (box.top > covered + 40) blanks.add("a stripe");
      covered = Math.max(covered, box.bottom);
    }
    if (Math.min(innerHeight, all.bottom) > covered + 40) blanks.add("a stripe");
    return blanks;
  };
  while (performance.now() - begun < 240000) {
    await new Promise(requestAnimationFrame);
    await new Promise((done) => setTimeout(done));  // what this frame shows is there now
    const now = performance.now();
    const blanks = blanks_now();
    frames += 1;
    if (frames % 10 === 0) most_nodes = Math.max(most_nodes, document.querySelectorAll("*").length);
    for (const [key, since] of blank_since) {
      longest = Math.max(longest, now - since);
      if (!blanks.has(key)) blank_since.delete(key);
    }
    for (const key of blanks) if (!blank_since.has(key)) blank_since.set(key, now);
    const before = scrollY;
    scrollBy(0, px);
    if (scrollY === before && blanks.size === 0) break;
  }
  return { scroll_s: (performance.now() - begun) / 1000, frames, longest_blank_ms: longest,
           most_nodes, tiles_seen: seen.size };
}"""
"""Scrolls so many pixels a frame to the end; how long a tile or a whole stripe was blank."""


def make_store(folder: Path, layers: Sequence[MadeLayer], *, size: int = 48, seed: int = 0) -> None:
    """Writes a store of made-up pictures (`size` pixels), records and evidence."""
    generator = np.random.default_rng(seed)
    network = featviz.load("planted")
    recipe = default_recipe(network, featviz.Channel("curve", 3), size=size).to_data()
    head = {"format": FORMAT, "network": "made-up", "fingerprint": network.fingerprint}
    entries = [
        _write_picture(folder, layer, channel, title, technique, recipe, generator)
        for layer in layers
        for channel, title, technique in _wishes(layer)
    ]
    described = [_layer_facts(layer, place, len(layers)) for place, layer in enumerate(layers)]
    _write(folder / HEAD, head)
    _write(folder / LAYERS, {**head, "rows": 224, "columns": 224, "layers": described})
    _write(folder / PLAN, {"format": 1, "config": {}, "entries": entries})


def _wishes(layer: MadeLayer) -> Iterator[tuple[int | None, str, str]]:
    for technique in layer.techniques:
        for channel in range(layer.channels):
            yield channel, f"{layer.name}:{channel}", technique
    for title in layer.titles:
        yield None, title, "direction"


def _layer_facts(layer: MadeLayer, place: int, count: int) -> dict[str, Any]:
    side = max(7, 112 // 2 ** (5 * place // count))
    field = min(224, 3 + 220 * place // count)
    return {
        "name": layer.name,
        "kind": "conv",
        "is_view": False,
        "channels": layer.channels,
        "sites": [side, side],
        "positions": side**2,
        "field": [field, field],
        "stride": [224 // side] * 2,
        "parameters": 9 * layer.channels,
    }


def _write_picture(
    folder: Path,
    layer: MadeLayer,
    channel: int | None,
    title: str,
    technique: str,
    recipe: dict[str, Any],
    generator: np.random.Generator,
) -> dict[str, Any]:
    """Writes a picture's four files; returns its entry of the plan."""
    digest = hashlib.sha256(f"{layer.name}/{title}/{technique}".encode()).hexdigest()[:32]
    key, rows = f"{digest}-0", recipe["shape"]["rows"]
    image = Image.fromarray(texture(rows, generator))
    small = image.resize((64, 64), Image.Resampling.LANCZOS)
    contents = {
        "picture": (file_of("picture", key, ".png"), _saved(image, format="PNG")),
        "thumbnail": (
            file_of("thumbnail", key, ".webp"),
            _saved(small, format="WEBP", quality=80, method=0),
        ),
    }
    for name, content in contents.values():
        _write(folder / name, content)
    score = float(generator.gamma(4, 3))
    record = Record(
        digest=digest,
        index=0,
        recipe=recipe,
        verdict="dead" if channel is not None and channel % 37 == 36 else "rendered",
        reason="what the network says never changed in any step" if channel == 36 else "",
        score=score,
        steps=224,
        course=tuple(score * (1 - np.exp(-np.arange(224) / 40))),
        execution={"slots": 16, "device": "cpu", "dtype": "float32"},
        seconds=1.25,
        made="2026-01-01T00:00:00+00:00",
        files={kind: (name, sha256(content)) for kind, (name, content) in contents.items()},
    )
    _write(folder / f"records/{key[:2]}/{key}.json", record.to_json())
    evidence = _evidence(score, layer.channels, channel, generator)
    shown = [
        _saved(Image.fromarray(texture(128, np.random.default_rng(number))), format="WEBP")
        for number, _ in enumerate(layer.exemplars)
    ]
    evidence["exemplars"] = [
        [file, score / (2 + number), sha256(shown[number])]
        for number, file in enumerate(layer.exemplars)
    ]
    for content in shown:
        _write(folder / exemplar_name(sha256(content)), content)
    _write(folder / evidence_name(key), evidence)
    return {
        "digest": digest,
        "index": 0,
        "address": title,
        "layer": layer.name,
        "channel": channel,
        "technique": technique,
        "title": title,
        "seed": 0,
        "is_view": False,
    }


def _evidence(
    score: float, channels: int, channel: int | None, generator: np.random.Generator
) -> dict[str, Any]:
    ratio = float(generator.beta(8, 3))
    rank = min(channels - 1, int(generator.exponential(0.7)))
    return {
        "format": 1,
        "references": "pink-512",
        "score": score,
        "held_out": ratio * score,
        "held_out_family": "perspective-gamma-jpeg-1",
        "held_out_ratio": ratio,
        "rank": None if channel is None else rank,
        "rank_of": None if channel is None else channels,
        "z": float(generator.normal(9, 2)),
        "spectrum_gap": float(generator.gamma(2, 0.3)),
        "diversity": None,
        "seed_stability": None,
        "natural_ratio": None,
        "natural_best": None,
        "path_similarity": None,
        "path_flag": None if channel is None else channel % 11 == 10,
    }


def texture(side: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Waves of a few directions in two colors, bent by slower ones."""
    down, right = np.mgrid[:side, :side] / side
    angle, waves = generator.uniform(0, np.pi), generator.uniform(2, 12)
    across = np.cos(angle) * down + np.sin(angle) * right
    bend = np.sin(2 * np.pi * (generator.uniform(0.5, 2) * right + generator.uniform(0, 1)))
    wave = np.sin(2 * np.pi * waves * (across + 0.05 * bend))
    other = np.cos(2 * np.pi * generator.uniform(1, 6, 2) @ np.stack([down.ravel(), right.ravel()]))
    other = other.reshape(side, side)
    colors = generator.uniform(0.05, 0.95, (3, 3))
    mixed = np.stack([(wave + 1) / 2, (other + 1) / 2, 1 - abs(wave * other)], axis=2) @ colors
    noisy = mixed / mixed.max() + generator.normal(0, 0.02, (side, side, 3))
    return (255 * noisy.clip(0, 1)).astype(np.uint8)


def _saved(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def _write(path: Path, content: bytes | dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


if __name__ == "__main__":
    main()
