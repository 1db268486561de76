"""What there is: `featviz networks`, `featviz layers`, `featviz units`."""

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from featviz.cli.options import parse_size, weights_option
from featviz.network.fields import Field
from featviz.network.layers import Layer, Totals, totals
from featviz.network.zoo import ENTRIES, load

as_json = click.option("--json", "is_json", is_flag=True, help="For programs.")


@click.command(short_help="List the networks, their weights and licences.")
@as_json
def networks(is_json: bool) -> None:
    """List the networks, where their weights come from, and their licences."""
    rows = [
        {"network": e.name, "weights": e.weights, "licence": e.licence, "about": e.about}
        for e in ENTRIES.values()
    ]
    families = (
        ("torchvision:NAME", "download, none or FILE", "see torchvision", "any of torchvision"),
        ("timm:NAME", "download, none or FILE", "see timm", "any of timm"),
        ("FILE.py:FACTORY", "your own", "your own", "returns (module, featviz.Preprocessing)"),
    )
    rows += [dict(zip(rows[0], family, strict=True)) for family in families]
    _show(rows, is_json=is_json)


@click.command(short_help="List a network's layers: maps, receptive fields, counts.")
@click.argument("network")
@weights_option
@click.option("--size", help="Picture size in pixels, SIDE or ROWSxCOLUMNS. [the network's own]")
@click.option("--no-views", is_flag=True, help="Only layers whose channels are unique units.")
@as_json
def layers(network: str, weights: str, size: str | None, no_views: bool, is_json: bool) -> None:
    """List where units of a NETWORK can be addressed, with sizes, fields and counts."""
    loaded = load(network, weights=weights)
    rows, columns = loaded.size if size is None else parse_size(size)
    known = loaded.layers(rows, columns)
    seen = loaded.fields(rows, columns)
    shown = [layer for layer in known.values() if not (no_views and layer.is_view)]
    table = [_row(layer, seen.get(layer.name)) for layer in shown]
    summary = _summary(totals(known))
    if is_json:
        content = {"network": loaded.name, "fingerprint": loaded.fingerprint}
        size_px = {"rows": rows, "columns": columns}
        click.echo(json.dumps({**content, **size_px, "layers": table, "totals": summary}, indent=1))
        return
    _show(table, is_json=False)
    click.echo(
        f"\n{summary['units']:,} unique units in {summary['layers']} layers; "
        f"{summary['neurons']:,} "
        f"neurons at {rows}x{columns} px: weight tying makes one unit of {summary['tying']:,.1f}; "
        f"{summary['parameters']:,} weights"
    )


@click.command(short_help="List the units that a selection names.")
@click.argument("network")
@click.argument("selection")
@weights_option
@as_json
def units(network: str, selection: str, weights: str, is_json: bool) -> None:
    """List the units of a NETWORK that a SELECTION names, one address a line."""
    loaded = load(network, weights=weights)
    found = [str(unit) for unit in loaded.units(selection, *loaded.size)]
    click.echo(json.dumps(found) if is_json else "\n".join(found))


def _row(layer: Layer, field: Field | None) -> dict[str, Any]:
    unit = not layer.is_view
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "channels": layer.channels,
        "map": "x".join(map(str, layer.sites)) or "1",
        "field_px": _field(field),
        "stride_px": _stride(field),
        "units": layer.channels if unit else 0,
        "neurons": layer.channels * layer.positions if unit else 0,
        "tying": layer.positions if unit else 0,
        "parameters": layer.parameters,
        "reads": "pre post" if layer.pre is not None else "post",
    }


def _field(field: Field | None) -> str:
    if field is None or field.rows is None or field.columns is None:
        return "more than measured" if field is not None and field.is_clipped else "all"
    return f"{field.rows}x{field.columns}"


def _stride(field: Field | None) -> str:
    if field is None or field.stride_rows is None or field.stride_columns is None:
        return ""
    return f"{field.stride_rows:g}x{field.stride_columns:g}"


def _summary(sums: Totals) -> dict[str, Any]:
    return {**asdict(sums), "tying": sums.tying}


def _show(rows: list[dict[str, Any]], *, is_json: bool) -> None:
    if is_json:
        click.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        is_number = isinstance(rows[0][name], int)
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()))
    Console(width=None if Console().is_terminal else 160).print(table)
