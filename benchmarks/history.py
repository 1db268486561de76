"""Picture-steps per second over commits, from the results of the step benchmark: table and plot.

    scripts/bench --history [--results benchmarks/results] [--out docs/history.svg]
        [--device cpu] [--dtype float32] [--size 128] [--slots 16]

One line a layer, one point a result that has such a row; results by date, then by the order of
their commits. The plot is plain SVG.
"""

import argparse
import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 110, 28, 44
COLORS = ("#1b6ca8", "#d1603d", "#3a7d44", "#7b4b94", "#8a6d1d", "#555555")


@dataclass(frozen=True)
class Point:
    """What one result says of one layer. `commit` without what was changed since it."""

    date: str
    commit: str
    layer: str
    picture_steps_per_s: float


def main() -> None:
    """Prints the table, writes the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--out", type=Path, default=Path("docs/history.svg"))
    parser.add_argument("--network", default="efficientnet_lite0")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--slots", type=int, default=16)
    options = parser.parse_args()
    found = points(options.results, options)
    print(f"{'date':<12}{'commit':<14}{'layer':<12}{'picture-steps/s':>16}")
    for point in found:
        rate = f"{point.picture_steps_per_s:>16.1f}"
        print(f"{point.date:<12}{point.commit:<14}{point.layer:<12}{rate}")
    title = (
        f"Picture-steps per second, {options.network} at {options.size} px, "
        f"{options.slots} slots, {options.dtype}, {options.device}"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(plot(found, title), encoding="utf-8")
    print(f"written to {options.out}")


def points(folder: Path, options: argparse.Namespace) -> list[Point]:
    """Of all results of the step benchmark, in order, the rows that the options name."""
    order = {commit[:12]: number for number, commit in enumerate(_commits())}
    wanted = [each for each in _steps(folder) if each["settings"]["network"] == options.network]
    by_age = sorted(
        wanted, key=lambda each: (each["date"], order.get(_commit(each), -1), _commit(each))
    )
    return [
        Point(result["date"], _commit(result), row["layer"], 1e3 / row["ms_per_picture_step"])
        for result in by_age
        for row in result["rows"]
        if _key(row, result) == (options.device, options.dtype, options.size, options.slots)
    ]


def _steps(folder: Path) -> Iterator[dict[str, Any]]:
    """The results of the step benchmark: files of their own, and parts of `benchmarks.cuda`'s."""
    for path in sorted(folder.glob("step-*.json")):
        yield json.loads(path.read_text("utf-8"))
    for path in sorted(folder.glob("cuda-*.json")):
        parts = json.loads(path.read_text("utf-8"))["rows"]
        yield from (part for part in parts if part.get("benchmark") == "step")


def _key(row: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Of a row; the first results had one precision, and were all measured on CPU."""
    dtype = row.get("dtype", result["settings"]["dtype"])
    return row.get("device", "cpu"), dtype, row["size_px"], row["slots"]


def _commit(result: Mapping[str, Any]) -> str:
    return result["commit"].removesuffix("+changes")


def _commits() -> list[str]:
    """Of this branch, oldest first; none where there is no git."""
    try:
        answer = subprocess.run(
            ["git", "rev-list", "--reverse", "HEAD"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return []
    return answer.stdout.split()


def plot(found: Sequence[Point], title: str) -> str:
    """The points as an SVG: commits from left to right at equal distances, rates from 0 up."""
    commits = list(dict.fromkeys((point.date, point.commit) for point in found))
    top = _round_up(max((point.picture_steps_per_s for point in found), default=1.0))
    across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    step = across / max(1, len(commits) - 1)
    lefts = {commit: LEFT + step * number for number, commit in enumerate(commits)}

    def place(point: Point) -> tuple[float, float]:
        rate = point.picture_steps_per_s
        return lefts[point.date, point.commit], TOP + up * (1 - rate / top)

    parts = [_text(LEFT, 16, title, size=12), *_grid(top, up)]
    every = math.ceil(len(commits) / 10)
    for number, (date, commit) in enumerate(commits):
        if number % every == 0:
            parts.append(_text(lefts[date, commit], HEIGHT - 26, commit[:7], anchor="middle"))
            parts.append(_text(lefts[date, commit], HEIGHT - 12, date, anchor="middle"))
    for number, layer in enumerate(dict.fromkeys(point.layer for point in found)):
        parts += _line(layer, [p for p in found if p.layer == layer], COLORS[number % 6], place)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif">'
    )
    return "\n".join(
        [head, '<rect width="100%" height="100%" fill="#ffffff"/>', *parts, "</svg>\n"]
    )


def _line(layer: str, own: Sequence[Point], color: str, place: Any) -> Iterator[str]:
    places = [place(point) for point in own]
    path = " ".join(f"{left:.1f},{down:.1f}" for left, down in places)
    yield f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>'
    for point, (left, down) in zip(own, places, strict=True):
        note = f"{layer}, {point.commit}: {point.picture_steps_per_s:.1f}"
        circle = f'<circle cx="{left:.1f}" cy="{down:.1f}" r="3" fill="{color}">'
        yield f"{circle}<title>{escape(note)}</title></circle>"
    yield _text(places[-1][0] + 8, places[-1][1] + 4, layer, color=color)


def _grid(top: float, up: float) -> Iterator[str]:
    for quarter in range(5):
        down = TOP + up * (1 - quarter / 4)
        yield f'<path d="M{LEFT} {down:.1f}H{WIDTH - RIGHT}" stroke="#dddddd"/>'
        yield _text(LEFT - 6, down + 4, f"{top * quarter / 4:.4g}", anchor="end")


def _text(
    left: float,
    down: float,
    words: str,
    *,
    size: int = 11,
    anchor: str = "start",
    color: str = "#333333",
) -> str:
    place = f'x="{left:.1f}" y="{down:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{color}">{escape(words)}</text>'


def _round_up(value: float) -> float:
    """The next number whose quarters are easily read."""
    power = 10 ** math.floor(math.log10(value))
    return next(power * each for each in (1, 2, 4, 8, 10) if power * each >= value)


if __name__ == "__main__":
    main()
