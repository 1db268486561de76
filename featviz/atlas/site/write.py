"""Writing the site of a store: sheets, data, pages, and index.html last, which names them all."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from featviz.atlas.site.content import Content, Shown, read_content, technique_place
from featviz.atlas.site.folder import SiteFolder
from featviz.atlas.site.report import report
from featviz.atlas.site.scripts import atlas_script, detail_scripts, hashed, layer_script
from featviz.atlas.site.thumbnails import features, mean_color, most_similar, pixels_of, sheets
from featviz.atlas.store import Store
from featviz.errors import DoesNotFit

SIMILAR = 8
"""Look-alikes on the page of a unit."""
STYLES = ("site.css",)
SCRIPTS = (
    *("data.js", "elements.js", "sheets.js", "filters.js", "layout.js", "wall.js", "plot.js"),
    *("unit.js", "compare.js", "search.js", "main.js"),
)


@dataclass(frozen=True)
class Site:
    """What was written. `damaged` names what could not be read; `missing` is not made yet."""

    folder: Path
    units: int
    pictures: int
    missing: int
    damaged: tuple[str, ...]
    files: int
    size: int
    """Bytes."""


def write_site(store: Store, folder: Path) -> Site:
    """Writes the site of a store into a folder; files of an older site there are replaced.

    Raises DoesNotFit, Malformed, NotAvailable.
    """
    if store.folder is not None and store.folder.resolve() == folder.resolve():
        raise DoesNotFit(
            f"the folder {str(folder)!r}", got="the store itself", expected="one beside or in it"
        )
    store.head()
    site = SiteFolder(folder)
    content = read_content(store, site.put)
    pictures = _in_sheet_order(content)
    places = {each.entry.key: place for place, each in enumerate(pictures)}
    colors = {each.entry.key: mean_color(pixels_of(each.thumbnail)) for each in pictures}
    sheet_names = [
        _put(site, f"sheets/{number:04}", ".webp", sheet)
        for number, sheet in enumerate(sheets(each.thumbnail for each in pictures))
    ]
    similar = _similar(content)
    scripts = []
    for number, layer in enumerate(content.layers):
        wall = layer_script(number, layer, places, colors)
        details = [
            _put(site, f"data/units-{number:03}-{chunk:03}", ".js", script)
            for chunk, script in enumerate(detail_scripts(number, layer.units, similar))
        ]
        scripts.append((_put(site, f"data/layer-{number:03}", ".js", wall), details))
    _write_pages(site, content, atlas_script(content, scripts, sheet_names), sheet_names, places)
    site.finish()
    return Site(
        folder=folder,
        units=len(content.units),
        pictures=len(pictures),
        missing=content.missing,
        damaged=tuple(content.damaged),
        files=site.count,
        size=site.size,
    )


def _write_pages(
    site: SiteFolder,
    content: Content,
    atlas: bytes,
    sheet_names: list[str],
    places: dict[str, int],
) -> None:
    environment = Environment(
        loader=PackageLoader("featviz.atlas.site"), autoescape=True, undefined=StrictUndefined
    )
    styles = [_put_static(site, name) for name in STYLES]
    icon = _put_static(site, "icon.svg")
    first, *others = (_put_static(site, name) for name in SCRIPTS)
    scripts = [first, _put(site, "data/atlas", ".js", atlas), *others]
    common = {"content": content, "styles": styles, "icon": icon}
    page = environment.get_template("report.html")
    found = report(content, sheet_names, places)
    site.put("report.html", page.render(**common, report=found).encode())
    site.flush()
    page = environment.get_template("index.html")
    site.put("index.html", page.render(**common, scripts=scripts).encode())


def _in_sheet_order(content: Content) -> list[Shown]:
    """First the picture that stands for each unit, then the others by technique."""
    first = [unit.pictures[0] for unit in content.units]
    others = [each for unit in content.units for each in unit.pictures[1:]]
    return first + sorted(others, key=_series)


def _series(shown: Shown) -> tuple[int, int]:
    return technique_place(shown.entry.technique), shown.entry.index


def _similar(content: Content) -> dict[int, list[list[int]]]:
    """By `id` of the unit: layer number and place of those whose first pictures look most alike."""
    addresses = [
        [number, place]
        for number, layer in enumerate(content.layers)
        for place in range(len(layer.units))
    ]
    units = content.units
    if len(units) < 2:
        return {id(unit): [] for unit in units}
    found = np.stack([features(pixels_of(unit.pictures[0].thumbnail)) for unit in units])
    nearest = most_similar(found, SIMILAR)
    return {
        id(unit): [addresses[other] for other in others]
        for unit, others in zip(units, nearest, strict=True)
    }


def _put(site: SiteFolder, stem: str, suffix: str, content: bytes) -> str:
    name = hashed(stem, suffix, content)
    site.put(name, content)
    return name


def _put_static(site: SiteFolder, name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    content = files("featviz.atlas.site").joinpath("static", name).read_bytes()
    return _put(site, f"static/{stem}", f".{suffix}", content)
