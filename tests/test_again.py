"""A stored picture made again in another setting of the process."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import featviz
from featviz.engine.again import again, stored
from featviz.engine.execution import threads


@pytest.mark.parametrize("count", [1, 2])
def test_recorded_threads_are_used_and_given_back(tmp_path: Path, count: int) -> None:
    network = featviz.load("planted")
    picture = featviz.render(network, "curve:3", size=48, steps=3)[0]
    path = picture.save(tmp_path / "one.png")
    with threads(count):
        made, differences = again(network, stored(path))
        assert torch.get_num_threads() == count
    assert differences == []
    assert made.save(tmp_path / "two.png").read_bytes() == path.read_bytes()
    with Image.open(path) as image:
        assert image.size == (48, 48)
