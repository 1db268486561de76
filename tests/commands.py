"""Commands run in this process, what a refusal must look like, and files to give to them."""

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from PIL import Image, PngImagePlugin

from featviz.cli.main import main
from featviz.engine import serial
from featviz.engine.picture import KEY, read_evidence

FAST = ("--size", "48", "--steps", "2")

OWN = '''
"""A network whose `second` has a channel 2 that overflows to infinity; 8 pixels or more."""

import featviz
from torch import nn


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 3, 1, bias=False)
        nn.init.constant_(self.first.bias, 100.0)
        nn.init.constant_(self.second.weight[2], 3e38)  # finite, but not 100 times it
        self.second.weight.data[0, 0] = 1.0

    def forward(self, images):
        return self.second(nn.functional.relu(self.first(images)))


def small():
    return Own(), featviz.Preprocessing(rows=32, columns=32)
'''


FOUR = """
import featviz
from torch import nn

def four():
    made_for = featviz.Preprocessing(mean=(0.5,) * 4, sd=(0.5,) * 4, rows=16, columns=16)
    return nn.Sequential(nn.Conv2d(4, 2, 3)), made_for
"""
"""The source of a network of four channels, whose pictures no image file holds."""


def huge_png() -> bytes:
    """The head of a file that claims to be 30,000 pixels wide and high."""
    header = b"IHDR" + (30000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    chunk = len(header[4:]).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk


def run(*arguments: object) -> Result:
    """What `featviz ARGUMENTS` prints and returns. Fails on anything but an orderly exit."""
    result = CliRunner().invoke(main, [str(each) for each in arguments], prog_name="featviz")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def printed(*arguments: object) -> str:
    """The stdout of a command that succeeds."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def rendered(*arguments: object) -> list[Path]:
    """The paths that `featviz render ARGUMENTS` prints, in their order."""
    return [Path(line.split("  ")[0]) for line in printed("render", *arguments).splitlines()]


def assert_refused(arguments: Iterable[object], *words: str) -> None:
    """Exit code 2, one line on stderr with all the words, and nothing written or printed."""
    before = sorted(Path.cwd().rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    for word in words:
        assert word in line
    assert sorted(Path.cwd().rglob("*")) == before


def tampered(picture: Path, target: Path, **evidence: Any) -> Path:
    """A copy of a picture that carries other evidence; None leaves a key out."""
    changed = {**read_evidence(picture), **evidence}
    text = serial.canonical({key: value for key, value in changed.items() if value is not None})
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text(KEY, text)
    with Image.open(picture) as image:
        image.save(target, pnginfo=chunks)
    return target
