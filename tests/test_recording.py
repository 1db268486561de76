"""Recorded values are the network's own, nothing more than needed runs, and nothing is left."""

import signal

import pytest
import torch
from evaluation import EXACT, pictures
from networks import GREY, Everything, network_of
from torch import Tensor, nn
from torch.nn import functional
from watching import Timeline

from featviz.engine.objectives import Channel
from featviz.engine.render import render
from featviz.errors import DoesNotFit, UnknownName
from featviz.image.transforms import Stack
from featviz.network.network import Network
from featviz.network.recording import Prefix, record
from featviz.network.zoo import load

KEYS = ("first/pre", "first", "second/pre", "second", "third/pre", "third", "tokens", "head")


def by_hand(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Every read point, computed out of place."""
    part = network.module.get_submodule
    said = {"first/pre": part("first")(network.to_input(images))}
    said["first"] = functional.relu(said["first/pre"])
    said["second/pre"] = part("norm")(part("second")(said["first"]))
    said["second"] = said["second/pre"].clamp(0, 6)
    said["third/pre"] = part("third")(said["second"])
    said["third"] = functional.relu(said["third/pre"])
    said["tokens"] = functional.gelu(part("tokens")(said["third"].flatten(2).transpose(1, 2)))
    said["head"] = part("head")(said["tokens"].mean(dim=1))
    return said


def prefix_of(network: Network, *keys: str) -> Prefix:
    return Prefix(network, keys, rows=12, columns=10)


def test_a_prefix_says_what_the_modules_say(everything: Network) -> None:
    images = pictures(2)
    expected = by_hand(everything, images)
    shown = everything.to_input(images)
    together = prefix_of(everything, *KEYS)(shown)
    for key in KEYS:
        torch.testing.assert_close(together[key], expected[key], **EXACT)
        torch.testing.assert_close(prefix_of(everything, key)(shown)[key], expected[key], **EXACT)
    assert list(together) == list(KEYS)


def test_record_says_what_the_modules_say(everything: Network) -> None:
    with record(everything, KEYS) as recorded:
        for seed in (0, 1):
            images = pictures(2, seed=seed)
            everything(images)
            for key, value in by_hand_unwatched(everything, images).items():
                torch.testing.assert_close(recorded[key], value, **EXACT)


def by_hand_unwatched(network: Network, images: Tensor) -> dict[str, Tensor]:
    with torch._C.DisableTorchFunction():
        return by_hand(network, images)


def test_values_before_an_in_place_rectifier_are_not_overwritten(everything: Network) -> None:
    """Lucent's hooks on torchvision's resnet18 return tensors without a negative value."""
    with record(everything, ["first/pre"]) as recorded:
        everything(pictures())
    assert recorded["first/pre"].min() < 0


def test_gradients_flow_through_every_read_point(everything: Network) -> None:
    images = pictures(1).requires_grad_()
    recorded = prefix_of(everything, *KEYS)(everything.to_input(images))
    expected = by_hand(everything, images)
    for key in KEYS:
        (mine,) = torch.autograd.grad(recorded[key].square().sum(), images, retain_graph=True)
        (theirs,) = torch.autograd.grad(expected[key].square().sum(), images, retain_graph=True)
        torch.testing.assert_close(mine, theirs, **EXACT)


def operations_of(prefix: Prefix, shown: Tensor) -> int:
    with Timeline() as timeline:
        prefix(shown)
    return timeline.count


def test_nothing_runs_behind_the_last_read_point(everything: Network) -> None:
    """Lucent runs 57 convolutions of which a mixed3a objective needs 9."""
    shown, prefix = everything.to_input(pictures(1)), prefix_of(everything, "second/pre")
    called: list[str] = []
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.append(name))
        for name, module in everything.module.named_children()
    ]
    prefix(shown)
    for hook in hooks:
        hook.remove()
    assert called == ["first", "relu", "second", "norm"]
    counts = [operations_of(prefix_of(everything, key), shown) for key in KEYS]
    assert counts == sorted(set(counts))
    assert operations_of(prefix_of(everything, "first"), shown) < counts[-1]


def test_nothing_at_all_runs_for_an_objective_of_the_picture(everything: Network) -> None:
    prefix = prefix_of(everything)
    assert operations_of(prefix, everything.to_input(pictures(1))) == 0
    assert prefix.depth == -1


def hooks_of(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, kind)) for part in module.modules() for kind in kinds)


def test_no_hook_is_left_after_a_thousand_passes(everything: Network) -> None:
    """Lucent leaves 138 hooks a render; faccent clears the user's own."""
    mine: list[int] = []
    handle = everything.module.get_submodule("third").register_forward_hook(
        lambda *_: mine.append(1)
    )
    before, shown = hooks_of(everything.module), everything.to_input(pictures(1))
    prefix = prefix_of(everything, "third")
    mine.clear()
    for _ in range(500):
        prefix(shown)
        with record(everything, ["first"]):
            everything.module(shown)
    render(everything, "third:0-3", steps=2, slots=2)
    assert hooks_of(everything.module) == before
    assert len(mine) >= 1000  # the user's own hook stays, and runs
    handle.remove()


def test_no_weight_gets_a_gradient(everything: Network) -> None:
    images = pictures(1).requires_grad_()
    recorded = prefix_of(everything, "third")(everything.to_input(images))
    recorded["third"].sum().backward()
    assert images.grad is not None
    for parameter in everything.module.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_the_users_module_stays_as_it_was() -> None:
    mine = Everything().train()
    mine.first.requires_grad_(requires_grad=False)
    flags = [p.requires_grad for p in mine.parameters()]
    state = {name: value.clone() for name, value in mine.state_dict().items()}
    network = load(mine, preprocessing=GREY)
    render(network, "third:1", steps=2, transforms=Stack())
    assert all(part.training for part in mine.modules())
    assert [p.requires_grad for p in mine.parameters()] == flags
    assert all(torch.equal(value, state[name]) for name, value in mine.state_dict().items())
    assert hooks_of(mine) == 0
    assert not network.module.training


class Failing(Everything):
    """Fails after some passes, in the middle, as a full memory does."""

    passes = 0
    limit = 10**9

    def forward(self, images: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > self.limit:
            self.first(images)
            raise RuntimeError("out of memory, so to say")
        return super().forward(images)


def test_errors_of_the_network_come_through() -> None:
    """Lucent swallows them and returns a picture."""
    module = Failing()
    network = network_of(module)
    prefix, shown = prefix_of(network, "third"), network.to_input(pictures(1))
    module.limit = module.passes
    for attempt in (lambda: prefix(shown), lambda: network(pictures(1))):
        with record(network, ["first"]), pytest.raises(RuntimeError, match="so to say"):
            attempt()
    module.limit = module.passes + 6
    with pytest.raises(RuntimeError, match="so to say"):
        render(network, Channel("third", 1), steps=8, size=(12, 10))
    assert hooks_of(module) == 0


class Branching(nn.Module):
    """Two ways, which somebody chooses from outside: not a frozen sequence of operations."""

    def __init__(self, *, shorter: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.last = nn.Conv2d(4, 4, 1)
        self.shorter = shorter
        self.is_other = False

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        if not self.is_other:
            return self.last(maps)
        return maps if self.shorter else self.last(maps.sigmoid())


@pytest.mark.parametrize(
    ("shorter", "words"), [(False, "got sigmoid, expected conv2d"), (True, "got its end")]
)
def test_a_network_that_runs_otherwise_is_refused(shorter: bool, words: str) -> None:  # noqa: FBT001
    module = Branching(shorter=shorter)
    network = network_of(module)
    prefix = prefix_of(network, "last")
    module.is_other = True
    with pytest.raises(DoesNotFit, match=words):
        prefix(network.to_input(pictures(1)))


def test_names_are_checked_before_anything_runs() -> None:
    network = network_of(Everything())
    with pytest.raises(UnknownName, match="nearest: third"), record(network, ["thrid"]):
        raise AssertionError
    with pytest.raises(UnknownName, match="no read point 'head/pre'"):
        prefix_of(network, "head/pre")
    assert hooks_of(network.module) == 0


def test_operations_of_the_users_own_hooks_are_counted_in_the_same_way() -> None:
    module = Everything()
    module.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2 - 1,))
    network = network_of(module)
    with record(network, ["first/pre"]) as recorded:
        network(pictures())
    expected = module.first(network.to_input(pictures()) * 2 - 1)
    torch.testing.assert_close(recorded["first/pre"], expected, **EXACT)


def test_each_pass_replaces_the_one_before_at_any_size(everything: Network) -> None:
    shapes = []
    with record(everything, ["third"]) as recorded:
        for images in (pictures(1), torch.rand(2, 3, 16, 14, dtype=torch.float64)):
            everything(images)
            shapes.append(tuple(recorded["third"].shape))
    assert shapes == [(1, 5, 6, 5), (2, 5, 8, 7)]


class Subtracting(nn.Module):
    """`1 - x` is `__rsub__` to a watcher: a name with ornaments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.turn = Turn()

    def forward(self, images: Tensor) -> Tensor:
        return torch.ops.aten.mul.Tensor(self.turn(self.conv(images)), 2.0)


class Turn(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.ops.aten.mul.Scalar(1 - maps, 3.0)


def test_operations_with_overload_names_are_recorded() -> None:
    network = network_of(Subtracting())
    images = pictures(1)
    part = network.module.get_submodule("conv")
    with record(network, ["conv", "turn"]) as recorded:
        network(images)
    assert torch.equal(recorded["turn"], 3 * (1 - recorded["conv"]))
    assert torch.equal(recorded["conv"], part(network.to_input(images)))


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_an_interruption_while_torch_has_put_the_recorder_aside_is_one(
    kind: type[BaseException],
) -> None:
    """As torch does around each of its functions that are written in Python."""

    def interrupted() -> None:
        torch.overrides._pop_mode()
        raise kind

    expected = kind if kind is KeyboardInterrupt else RuntimeError
    with pytest.raises(expected), record(load("planted"), ["line"]):
        interrupted()


class Interrupting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.has_run = False

    def forward(self, maps: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGINT)
        self.has_run = True
        return self.conv(maps)


def test_a_pass_is_not_cut_in_two_by_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Interrupting()
    with monkeypatch.context() as patch:
        patch.setattr(signal, "raise_signal", lambda _: None)
        prefix = prefix_of(network_of(module), "conv")
    module.has_run = False
    with pytest.raises(KeyboardInterrupt):
        prefix(pictures(1))
    assert module.has_run
