"""The README's measured section, written from the newest committed results; nothing by hand.

python -m benchmarks.report            # rewrites the section in README.md
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- measured: by benchmarks/report.py -->", "<!-- end of measured -->"
NETWORKS = ("efficientnet_lite0", "googlenet_bvlc")


def main() -> None:
    """Rewrites README.md."""
    path = ROOT / "README.md"
    path.write_text(with_section(path.read_text(encoding="utf-8")), encoding="utf-8")


def with_section(readme: str) -> str:
    """The README with its measured section replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{section()}\n{END}{after}"


def section() -> str:
    """All that was measured, as Markdown."""
    parts = [
        _steps(),
        _gpu(),
        _gpu_steps(),
        _atlas(),
        _acceptance(),
        _site(),
        _scaling(),
        _peers(),
        _settings("settings-2*.json"),
        _settings("settings-fast-*.json"),
    ]
    parts += [_photographs(), _agreement(), _last_layer()]
    return "\n\n".join(part for part in parts if part)


def newest(pattern: str) -> dict[str, Any] | None:
    """The result of the latest date; of one date, the last name."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(pattern))]
    return max(enumerate(found), key=lambda each: (each[1]["date"], each[0]))[1] if found else None


def _where(result: dict[str, Any]) -> str:
    hardware, versions = result["hardware"], result["versions"]
    known = hardware.get("instructions")  # what the first results did not say
    return (
        f"{hardware['device']}{f' ({known})' if known else ''}, {hardware['threads']} threads, "
        f"torch {versions['torch']}, {result['date']}, commit `{result['commit']}`"
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _steps() -> str:
    result = newest("step-*-cpu.json")
    if result is None:
        return ""
    rows = [
        [
            f"`{row['layer']}`",
            row["dtype"],
            str(row["slots"]),
            f"{row['ms_per_picture_step']:.2f}",
            f"{row['ms_redirected']:.2f}",
            f"{row['outside_network']:.1%}",
            f"{row['of_matrix_rate']:.1%}",
        ]
        for row in result["rows"]
    ]
    head = ["layer", "precision", "slots", "ms", "ms, redirected", "outside the network"]
    head += ["of matrix rate"]
    return (
        f"**A step of a batch** (`scripts/bench`; {_where(result)}; default network, "
        f"{result['rows'][0]['size_px']} px): milliseconds per picture and step, and per step with "
        "redirected gradients; the share of work that is not the network's; the fraction of the "
        "measured rate of torch's matrix product in that precision.\n\n" + _table(head, rows)
    )


def _gpu() -> str:
    result = newest("cuda-*.json")
    rows_of = [] if result is None else result["rows"]
    whole = [row for row in rows_of if row.get("benchmark") == "everything"]
    if result is None or not whole:
        return ""
    rows = []
    for row in whole:
        summary = row["summary"]
        rows.append(
            [
                f"`{row['settings']['network']}`",
                str(row["settings"]["steps"]),
                f"{summary['units']:,}",
                f"{summary['wall_s']:.1f}",
                f"{summary['planned_s']:.1f}",
                f"{summary['units_per_s']:.0f}",
                f"{summary['peak_mib'] / 1024:.1f}",
            ]
        )
    head = ["network", "steps", "units", "s", "of them before the first step", "units a second"]
    head += ["GiB"]
    row = whole[0]["settings"]
    return (
        f"**Every unit on one GPU** (`scripts/bench --device cuda`; {_where(result)}): the "
        f"convolutional stem and inception blocks of GoogLeNet, {row['size']} px, {row['dtype']}, "
        f"{whole[0]['summary']['slots']} slots; seconds from the loaded network to 8-bit pictures "
        "with their clean scores, compiling and recording included.\n\n" + _table(head, rows)
    ) + _gpu_peers(result)


def _gpu_peers(result: dict[str, Any]) -> str:
    parts = {row["part"]: row for row in result["rows"]}
    if "lucent by ours" not in parts:
        return ""
    units, found = parts["lucent by ours"]["units"], parts["peers"]["summary"][NETWORKS[1]]
    ratios = " and ".join(
        f"{ratio['wall_s']:,.0f} times ours ({part.removeprefix('everything, ')})"
        for part, ratio in parts["lucent by ours"]["by_part"].items()
    )
    return (
        f"\n\nLucent's defaults on that card took {found['wall_s_peer']:.1f} s a unit (the median "
        f"of {units} units of `{NETWORKS[1]}`, {found['passes_peer']:.0f} passes): {ratios}. Of "
        "these units our score by theirs is "
        f"{found['score_ratio']:.2f} with the default steps, {found['held_out_ratio']:.2f} under "
        f"held-out changes, and {found['score_native_ratio']:.2f} with both enlarged to the 224 px "
        "that Lucent optimizes for."
    )


def _gpu_steps() -> str:
    result = newest("cuda-*.json")
    parts = [] if result is None else [row for row in result["rows"] if "benchmark" in row]
    rows = [
        [
            f"`{part['settings']['network']}`",
            f"`{row['layer']}`",
            row["dtype"],
            str(row["slots"]),
            f"{row['picture_steps_per_s']:,.0f}",
            f"{row['outside_network']:.1%}",
            f"{row['of_matrix_rate']:.1%}",
            f"{row['of_copy_rate']:.1%}",
        ]
        for part in parts
        if part["benchmark"] == "step"
        for row in part["rows"]
        if row["slots"] == max(each["slots"] for each in part["rows"])
    ]
    if not rows:
        return ""
    head = ["network", "layer", "precision", "slots", "picture-steps a second"]
    head += ["outside the network", "of matrix rate", "of copy rate"]
    return (
        "**A step on that GPU**: at 128 px; the share of its time that is not the network's, and "
        "what it reaches of the measured rates of a matrix product and of a copy.\n\n"
        + _table(head, rows)
    )


def _atlas() -> str:
    result = newest("atlas-*-cpu.json")
    if result is None:
        return ""
    settings = result["settings"]
    rows = [
        [
            row["batching"],
            row["stop"],
            f"{row['wall_s_per_unit']:.2f}",
            f"{row['cpu_s_per_unit']:.2f}",
            f"{row['steps_per_picture']:.0f}",
            f"{row['useful_share']:.0%}",
            f"{row['score_ratio']:.3f}",
        ]
        for row in result["rows"]
    ]
    head = ["batches", "end", "s a unit", "CPU s", "steps", "rows in use", "score by the first's"]
    return (
        f"**An atlas** (`scripts/bench atlas`; {_where(result)}): {result['rows'][0]['units']} "
        f"units of {len(settings['layers'])} layers of {settings['network']}, {settings['size']} "
        f"px, {settings['slots']} slots, at most {settings['steps']} steps; a row that is done is "
        "filled at once (continuous) or when its whole batch is (waiting); it is done after all "
        "steps (fixed) or at a plateau.\n\n" + _table(head, rows)
    )


def _acceptance() -> str:
    result = newest("acceptance-*.json")
    if result is None:
        return ""
    settings, config = result["settings"], result["coverage"]["config"]
    rows = [
        [
            f"`{row['layer']}`",
            str(row["pictures"]),
            str(row["dead"]),
            f"{row['rank_top_1']:.0%}",
            f"{row['rank_top_5']:.0%}",
            f"{row['rank_median']:g}",
            f"{row['median_held_out_ratio']:.2f}",
            f"{row['median_spectrum_gap']:.2f}",
        ]
        for row in result["rows"]
    ]
    head = ["layer", "pictures", "dead", "first", "of first 5", "rank", "held out", "spectrum gap"]
    return (
        f"**A whole atlas** (`scripts/bench acceptance`, `configs/{settings['config']}`; "
        f"{_where(result)}): {result['pictures']:,} pictures of {settings['size']} px, preset "
        f"`{settings['preset']}`, in {result['pictures_s']:.0f} s, their evidence in "
        f"{result['evidence_s']:.0f} s, pages in {result['site_s']:.1f} s; "
        f"{config['accounted']:.0%} of the config accounted for. "
        f"{settings.get('note', '')}{_stops()}"
        "By layer: how many pictures excite their own unit most of all units of the layer, or "
        "among the first 5; medians of the rank, of the share of the score left under held-out "
        "changes, and of the spectrum gap.\n\n" + _table(head, rows)
    )


def _stops() -> str:
    result = newest("stopping-*.json")
    if result is None:
        return ""
    longest = max(row["stop_s"] for row in result["rows"])
    return (
        "Told to stop by SIGINT or SIGTERM while rendering or measuring, a build ended within "
        f"{longest:.1f} s (`scripts/bench stopping`; {_where(result)}). "
    )


def _site() -> str:
    result = newest("site-*.json")
    if result is None:
        return ""
    written, shown = result["written"], {name: result[name] for name in ("file", "serve")}
    rows = [
        [
            name,
            f"{each['first_wall_s']:.2f}",
            f"{each['first_bytes'] / 1e6:.2f}",
            str(each["first_requests"]),
            f"{max(scroll['longest_blank_ms'] for scroll in each['scrolls'].values()):.0f}",
            str(max(scroll["most_nodes"] for scroll in each["scrolls"].values())),
        ]
        for name, each in shown.items()
    ]
    head = ["opened by", "first wall, s", "MB", "requests", "longest blank, ms", "most DOM nodes"]
    return (
        f"**Pages of an atlas** (`scripts/bench site`; {_where(result)}): "
        f"{written['units']:,} units of {result['settings']['size']} px, written in "
        f"{written['write_s']:.1f} s, {written['bytes'] / 1e6:.0f} MB; until the first wall is "
        "seen, and scrolling through everything, in headless Chromium.\n\n" + _table(head, rows)
    )


def _last_layer() -> str:
    result = newest("lastlayer-*.json")
    if result is None:
        return ""
    rows = [
        [f"`{row['network']}`", f"{row['units']:,}", f"{row['saved_at_most']:.1%}"]
        for row in result["rows"]
    ]
    return (
        f"**What the last layer costs** (`scripts/bench lastlayer`; {_where(result)}): the most "
        "multiply-adds that an atlas of every unit could save if each unit's layer computed that "
        "unit alone.\n\n" + _table(["network", "units", "at most"], rows)
    )


def _scaling() -> str:
    result = newest("scaling-*-cpu.json")
    if result is None:
        return ""
    rows = [
        [
            row["grows"],
            str(row["units"]),
            str(row["slots"]),
            str(row["size"]),
            f"`{row['layer']}`",
            f"{row['wall_ms_per_picture_step']:.2f}",
            f"{row['peak_mib'] - row['base_mib']:.0f}",
        ]
        for row in result["rows"]
    ]
    head = ["what grows", "units", "slots", "px", "layer", "ms", "MiB"]
    return (
        f"**Growth** (`scripts/bench scaling`; {_where(result)}): milliseconds per picture and "
        f"step, of {result['settings']['steps']} steps with all that comes before them, and the "
        "peak of memory over what the process held with its network loaded.\n\n"
        + _table(head, rows)
    )


def _peers() -> str:
    newest_of: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob("peers-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        settings = result["settings"]
        key = _peer_name(settings)
        is_newer = key not in newest_of or newest_of[key]["date"] <= result["date"]
        if settings.get("device", "cpu") == "cpu" and is_newer:
            newest_of[key] = result
    if not newest_of:
        return ""
    parts = [newest_of[key] for key in sorted(newest_of)]
    rows = [row for result in parts for row in _peer_rows(result)]
    head = ["peer", "network", "units", "passes", "CPU time", "score", "held out", "at 224 px"]
    head += ["rank", "equal after", "CPU time then"]
    steps = dict.fromkeys(str(each["settings"]["steps"]) for each in parts)
    notes = [
        f"{_peer_name(each['settings'])}: {note}."
        for each in parts
        if (note := each["settings"].get("note", "").rstrip("."))
    ]
    conditions = dict.fromkeys(_where(each) for each in parts)
    return (
        f"**Against peers** (`scripts/bench peers`; {'; '.join(conditions)}; "
        f"{' or '.join(steps)} steps of ours, their own defaults, 128 px for both and, in rows of "
        'their own, our "auto" size): passes of the network a unit, ours and theirs; '
        "their CPU time by ours; medians over units of our score by theirs: as each tool shows its "
        "picture to the network (Lucent and Horama enlarge it to 224), under held-out changes, and "
        "with both enlarged to 224; the median rank of the unit in its layer, ours and theirs; the "
        "fewest of our passes whose score is not below theirs (median; how many units get there "
        "within the most that were tried) and their CPU time by ours with these. "
        + " ".join(notes)
        + "\n\n"
        + _table(head, rows)
    )


def _peer_name(settings: Mapping[str, Any]) -> str:
    """The tool, its weights where they are not as it has them, our precision where it is lower."""
    tool, variant = settings.get("tool", "lucent"), settings["variant"]
    weights = "" if variant == "default" else f", {variant} weights"
    dtype = settings.get("dtype", "float32")
    return tool + weights + ("" if dtype == "float32" else f", ours in {dtype}")


def _peer_rows(result: dict[str, Any]) -> list[list[str]]:
    peer = _peer_name(result["settings"])
    rows = []
    for name, each in result["summary"].items():
        if not each["units"]:
            continue
        ratios = (each[f"{n}_ratio"] for n in ("score", "held_out", "score_native"))
        rows.append(
            [
                peer,
                f"`{name}`" if name in NETWORKS else name,
                str(each["units"]),
                f"{each['passes_ours']:.0f} / {each['passes_peer']:.0f}",
                f"{each['cpu_s_peer_by_ours']:.1f}",
                *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
                f"{each['rank_ours']:.0f} / {each['rank_peer']:.0f}",
                *_until_equal(each),
            ]
        )
    return rows


def _until_equal(summary: dict[str, Any]) -> tuple[str, str]:
    if "equal" not in summary:
        return "", ""
    passes, ratio = summary["passes_until_equal"], summary["cpu_s_peer_by_ours_until_equal"]
    return f"{passes:.0f} ({summary['equal']} of {summary['units']})", f"{ratio:.1f}"


def _settings(pattern: str) -> str:
    result = newest(pattern)
    if result is None:
        return ""
    rows = [
        [
            row["variant"],
            f"{row['passes']:.0f}",
            *(f"{row[f'{name}_ratio']:.3f}" for name in ("score_saved", "held_out_saved")),
            f"{row['first_in_rank']} of {len(row['units'])}",
        ]
        for row in result["rows"]
    ]
    head = ["settings", "passes", "score", "held out", "rank 0"]
    return (
        f"**Settings** (`scripts/bench settings`; {_where(result)}): medians over "
        f"{result['settings']['units']} units of two networks of the score and of the score under "
        f'held-out changes, by those of "{result["settings"]["compared_with"]}"; how many units '
        "are first of their layer under their own picture.\n\n" + _table(head, rows)
    )


def _photographs() -> str:
    result = newest("natural-*.json")
    if result is None:
        return ""
    rows = [
        [f"`{row['layer']}`", str(row["live"]), str(row["above_every_photograph"])]
        for row in result["rows"]
    ]
    summary = result["summary"]
    return (
        f"**Pictures against photographs** (`scripts/bench natural`; {_where(result)}): live "
        f"units, and how many of their pictures score above every one of "
        f"{result['settings']['photographs']} photographs under the same objective. The median "
        f"score is {summary['median_ours']:.2f} with the default settings "
        f"({result['settings']['steps']} steps), {summary['median_lucid']:.2f} with Lucid's, over "
        f"every {result['settings']['lucid_every']}th of these units.\n\n"
        + _table(["layer", "live units", "above every photograph"], rows)
    )


def _agreement() -> str:
    result = newest("agreement-*.json")
    if result is None:
        return ""
    rows = [
        [
            str(row["slots"]),
            row["dtype"],
            f"{row['median_score']:.2f}",
            f"{row['median_difference']:.2%}",
            f"{row['largest_difference']:.2%}",
        ]
        for row in result["rows"]
    ]
    head = ["slots", "precision", "median score", "median difference", "largest"]
    return (
        f"**Agreement of scores** (`scripts/bench agreement`; {_where(result)}): 32 units, each "
        "run against the first.\n\n" + _table(head, rows)
    )


if __name__ == "__main__":
    main()
