"""Do our pictures beat photographs, and Lucid's settings, at their own objective?

    python -m benchmarks.natural --images FOLDER [--layers L ...] [--lucid-every N]

For every unit of some layers, or for --units of each, evenly spaced: the clean score of the 8-bit
picture against the unit's largest value over the photographs, cropped to a square and resized to
the picture's size, under the same objective (channel mean). For every N-th of those units: the
same picture under `lucid_preset`.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

import featviz
from benchmarks.machine import write_result
from featviz.engine.execution import execution
from featviz.engine.picture import Picture
from featviz.engine.recipe import Recipe, default_recipe, lucid_preset
from featviz.engine.render import render_each
from featviz.engine.seen import see
from featviz.network.network import Network
from featviz.network.recording import Prefix

LAYERS = ("blocks.1", "blocks.3", "blocks.4", "blocks.6")


def main() -> None:
    """Measures, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS))
    parser.add_argument("--units", type=int, default=10**6, help="of each layer, at most")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--lucid-every", type=int, default=10)
    parser.add_argument("--out", type=Path, help="[benchmarks/results/natural-DATE-NETWORK.json]")
    options = parser.parse_args()
    network = featviz.load(options.network, weights=options.weights)
    photographs = photographs_of(options.images, options.size)
    print(f"{len(photographs)} photographs at {options.size} px")
    rows = [_layer(network, layer, photographs, options) for layer in options.layers]
    ours = [score for row in rows for score in row["ours_on_lucid_units"]]
    lucid = [score for row in rows for score in row["lucid"]]
    summary = {"median_ours": statistics.median(ours), "median_lucid": statistics.median(lucid)}
    print(f"over {len(ours)} units: median {summary['median_ours']:.4g}, "
          f"Lucid's settings {summary['median_lucid']:.4g}")  # fmt: skip
    keep = ("network", "layers", "units", "size", "slots", "lucid_every")
    settings = {name: getattr(options, name) for name in keep}
    settings |= {"photographs": len(photographs), "steps": Recipe.steps}
    content = {"settings": settings, "summary": summary, "rows": rows}
    suffix = f"-{options.network}"
    write_result("natural", torch.device("cpu"), content, out=options.out, suffix=suffix)


def photographs_of(folder: Path, size: int) -> Tensor:
    """All images of a folder as one batch in [0, 1]: center squares, resized with antialiasing."""
    squares = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            whole = functional.to_image(image.convert("RGB"))
        square = functional.center_crop(whole, [min(whole.shape[1:])] * 2)
        squares.append(functional.resize(square, [size, size], antialias=True))
    return functional.to_dtype(torch.stack(squares), torch.float32, scale=True)


def _layer(
    network: Network, layer: str, photographs: Tensor, options: argparse.Namespace
) -> dict[str, Any]:
    natural = _largest_means(network, layer, photographs)
    channels = range(0, len(natural), -(-len(natural) // options.units))
    recipes = [
        default_recipe(network, featviz.Channel(layer, channel), size=options.size)
        for channel in channels
    ]
    start = time.perf_counter()
    ours = _rendered(network, recipes, options.slots)
    seconds = time.perf_counter() - start
    sampled = recipes[:: options.lucid_every]
    presets = [lucid_preset(recipe) for recipe in sampled]
    lucid = _rendered(network, presets, options.slots)
    pictures = {c: ours[recipe.digest] for c, recipe in zip(channels, recipes, strict=True)}
    # A unit that fires for a photograph lives, whether or not our picture woke it.
    live = [c for c, p in pictures.items() if p.verdict != "dead" or natural[c] > 0]
    above = [c for c in live if pictures[c].score > natural[c]]
    row = {
        "layer": layer,
        "units": len(recipes),
        "live": len(live),
        "above_every_photograph": len(above),
        "share": len(above) / max(len(live), 1),
        "not_above": sorted(set(live) - set(above)),
        "wall_s_per_unit": seconds / len(recipes),
        "channels": list(channels),
        "scores": [picture.score for picture in pictures.values()],
        "largest_over_photographs": [natural[channel] for channel in channels],
        "ours_on_lucid_units": [ours[recipe.digest].score for recipe in sampled],
        "lucid": [lucid[preset.digest].score for preset in presets],
    }
    print(
        f"{layer:>12}: {len(above)} of {len(live)} live units above every photograph "
        f"({row['share']:.1%}); median {statistics.median(row['ours_on_lucid_units']):.4g}, "
        f"Lucid's settings {statistics.median(row['lucid']):.4g}; "
        f"{row['wall_s_per_unit']:.2f} s a unit",
        flush=True,
    )
    return row


def _rendered(network: Network, recipes: Sequence[Recipe], slots: int) -> dict[str, Picture]:
    how = execution(slots=slots, weights=network.weights)
    return {picture.recipe.digest: picture for picture in render_each(network, recipes, how)}


def _largest_means(network: Network, layer: str, photographs: Tensor) -> list[float]:
    rows, columns = photographs.shape[2:]
    prefix = Prefix(network, [layer], rows=rows, columns=columns)
    means = []
    with torch.no_grad():
        for images in photographs.split(32):
            seen = see(prefix(network.to_input(images)), prefix.layers, images)
            means.append(seen.maps[layer].values.mean(dim=2))
    return torch.cat(means).amax(dim=0).tolist()


if __name__ == "__main__":
    main()
