"""The README keeps its word: code runs, commands parse, links and numbers are there."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from commands import printed

from benchmarks import report
from featviz.cli.main import main
from featviz.cli.options import recipe_of
from featviz.cli.render import render
from featviz.engine.render import objectives_of
from featviz.network.zoo import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CHEAP = ("networks", "layers", "units")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The words of every line that calls featviz."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("featviz ")]


def numbers(value: Any) -> list[float]:
    """Every number in a JSON value, those of bytes in megabytes too."""
    if isinstance(value, dict):
        return [each for inner in value.values() for each in numbers(inner)]
    if isinstance(value, list):
        return [each for inner in value for each in numbers(inner)]
    if isinstance(value, str):
        return [float(each) for each in re.findall(r"\d+(?:\.\d+)?", value)]
    return [float(value), value / 1e6] if isinstance(value, (int, float)) else []


def claims(section: str) -> list[str]:
    """The numbers in a text, as written: not those in names such as Lite0 or float32."""
    text = re.sub(r"<!--.*?-->|`[^`]*`|\]\([^)]*\)", "", section, flags=re.DOTALL)
    return re.findall(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?![\w-])", text)


def is_measured(claim: str, measured: list[float]) -> bool:
    """Whether a measured number, or its hundredfold as per cent, rounds to the claim."""
    text = claim.replace(",", "")
    decimals = len(text.partition(".")[2])
    return any(
        round(each * factor, decimals) == float(text) for each in measured for factor in (1, 100)
    )


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_python_blocks_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks("python")[number], f"README.md, block {number}", "exec"), {})


def test_there_are_blocks_to_test() -> None:
    assert len(blocks("python")) >= 2
    assert {words[0] for words in commands()} == set(main.commands)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse_and_name_what_is_there(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command = main.commands[words[0]]
    context = command.make_context(words[0], words[1:], parent=click.Context(main))
    if command is render and context.params["network"] is not None:
        network = load(context.params["network"])
        objectives = [
            each for wish in context.params["wishes"] for each in objectives_of(network, wish)
        ]
        assert [recipe_of(network, each, context.params) for each in objectives]
    if words[0] == "atlas":
        assert context.params["config"].is_file()
    if words[0] in CHEAP:
        assert printed(*words)


def test_links_and_images_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert [each for each in targets if "://" not in each and not (ROOT / each).exists()] == []


def test_scripts_and_files_that_are_named_are_there() -> None:
    named = set(re.findall(r"\b(?:scripts|configs|benchmarks|featviz)/[\w./-]*\w", README))
    assert "scripts/demo" in named
    assert [each for each in sorted(named) if not (ROOT / each).exists()] == []


def test_networks_that_are_named_are_there() -> None:
    known = {row["network"] for row in json.loads(printed("networks", "--json"))}
    paragraph = README[README.index("**Networks.**") : README.index("**Units.**")]
    for name in ("efficientnet_lite0", "googlenet_bvlc", "planted", "torchvision:NAME"):
        assert f"`{name}`" in paragraph
        assert name in known


def test_measured_numbers_stand_in_committed_results() -> None:
    section = README[README.index("## Measured") : README.index("## Licence")]
    results = (ROOT / "benchmarks" / "results").glob("*.json")
    measured = [each for path in results for each in numbers(json.loads(path.read_text()))]
    assert [each for each in claims(section) if not is_measured(each, measured)] == []


def test_the_measured_section_is_what_the_results_say() -> None:
    assert report.with_section(README) == README, "run python -m benchmarks.report"


def test_a_number_that_was_not_measured_is_noticed() -> None:
    section = "12.3 ms on Lite0 in `float32`, 1,024 px; 45 % [x](a-77.png) <!-- 99 -->"
    assert claims(section) == ["12.3", "1,024", "45"]
    measured = numbers({"rows": [{"ms": 12.34, "share": 0.4501, "size": "1024 px"}]})
    assert all(is_measured(each, measured) for each in claims(section))
    assert not is_measured("12.4", measured)
    assert not is_measured("46", measured)
