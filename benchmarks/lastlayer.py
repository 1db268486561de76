"""How much of an atlas could be saved if a unit's layer computed that unit alone?

python -m benchmarks.lastlayer [NETWORK[=WEIGHTS] ...]

An upper bound in multiply-adds, over all units of a network, each rendered with the network cut
after its layer: the share of the last convolution or linear layer. Gradients have the same share.
"""

import argparse
import math
from pathlib import Path

import torch

import featviz
from benchmarks.machine import line, write_result
from featviz.network.network import Network

NETWORKS = ("efficientnet_lite0", "torchvision:resnet50=none", "torchvision:vgg16=none")


def main() -> None:
    """Prints a line a network, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--out", type=Path, help="[benchmarks/results/lastlayer-DATE.json]")
    options = parser.parse_args()
    rows = []
    for name, _, weights in (each.partition("=") for each in options.networks):
        network = featviz.load(name, weights=weights or "default")
        rows.append({"network": name, **bound(network, options.size)})
        print(line(rows[-1]))
    content = {"settings": {"size": options.size}, "rows": rows}
    write_result("lastlayer", torch.device("cpu"), content, out=options.out)


def bound(network: Network, size: int) -> dict[str, float]:
    """The units, and the share of their layers in all multiply-adds of rendering each once."""
    weights = dict(network.module.named_parameters())
    depth = last = whole = units = 0
    for operation in network.trace(size, size).operations:
        own = [weights[name] for name in operation.parameters if weights[name].ndim > 1]
        if operation.name not in ("conv2d", "linear") or not own:
            continue
        work = math.prod(operation.shape) * math.prod(own[0].shape[1:])
        depth += work
        units += len(own[0])
        last += len(own[0]) * work
        whole += len(own[0]) * depth
    return {"units": units, "saved_at_most": last / whole}


if __name__ == "__main__":
    main()
