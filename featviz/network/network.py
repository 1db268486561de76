"""A frozen network with its preprocessing: what can be addressed in it, and how it is run."""

import copy
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from featviz.errors import DoesNotFit, NotAvailable, NotFinite, OutOfRange, UnknownName
from featviz.kernels import kernels
from featviz.network.fields import Field, fields
from featviz.network.fingerprint import fingerprint
from featviz.network.layers import Layer, layers
from featviz.network.preprocessing import Given, Preprocessing
from featviz.network.trace import INPUT, Trace, trace
from featviz.shapes import Images
from featviz.units import Extent, Unit, layer_key, parse_selection, split_key


class Network:
    """A network that never changes: eval mode, no weight gradients, its own device and dtype.

    The module is frozen in place (`requires_grad` off, eval mode); hooks that the user put on it
    stay and run. `weights` is the word or file that they came from.

    Raises NotFinite when a weight is NaN or infinite.
    """

    def __init__(
        self,
        module: nn.Module,
        preprocessing: Preprocessing,
        *,
        name: str,
        labels: tuple[str, ...] = (),
        weights: str = "default",
    ) -> None:
        for key, value in module.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise NotFinite(f"the weight {key!r} of network {name!r}")
        self.module = module.eval().requires_grad_(requires_grad=False)
        self.preprocessing = preprocessing
        self.name = name
        self.labels = labels
        self.weights = weights
        self.fingerprint = fingerprint(module, preprocessing)
        self.in_pairs = False
        """Whether an accelerated pass may round the factors of its products to bfloat16."""
        self._original = self
        self._forget()

    def _forget(self) -> None:
        self._copies: dict[tuple[torch.device, torch.dtype, bool], Network] = {}
        self._constants = lru_cache(maxsize=8)(self._make_constants)
        self._traced = lru_cache(maxsize=16)(self._make_traced)

    def __repr__(self) -> str:
        return f"Network({self.name!r}, fingerprint={self.fingerprint[:12]})"

    def at(
        self, device: torch.device | str, dtype: torch.dtype, *, in_pairs: bool = False
    ) -> "Network":
        """This network on a device and in a dtype; itself where it is that already.

        A copy has the same fingerprint, and is kept for the next call. It is made from the weights
        as they were given, never from a copy that was rounded on the way. `in_pairs`: see there;
        the module is the one without.
        """
        place, original = torch.device(device), self._original
        for known in (self, original):
            if known._is_at(place, dtype) and known.in_pairs == in_pairs:
                return known
        key = place, dtype, in_pairs
        if key not in original._copies:
            original._copies[key] = (
                original.at(place, dtype)._rounding()
                if in_pairs
                else original._placed(place, dtype)
            )
        return original._copies[key]

    def _rounding(self) -> "Network":
        other = copy.copy(self)
        other.in_pairs = True
        return other

    def _placed(self, place: torch.device, dtype: torch.dtype) -> "Network":
        other = copy.copy(self)
        with torch.inference_mode(mode=False):
            other.module = copy.deepcopy(self.module).to(device=place, dtype=dtype)
        other._forget()
        return other

    def _is_at(self, place: torch.device, dtype: torch.dtype) -> bool:
        is_here = place.type == self.device.type and place.index in (None, self.device.index)
        return is_here and dtype == self.dtype

    def __call__(self, images: Images) -> Tensor:
        """The network's output for pictures in [0, 1]."""
        constants = self._constants(images.device, images.dtype)
        return self.module(self.preprocessing.apply(images, constants).to(dtype=self.dtype))

    def to_input(self, images: Images) -> Tensor:
        """What the module is given for pictures in [0, 1]; arithmetic in the pictures' dtype."""
        constants = self._constants(images.device, images.dtype)
        is_whole = images.ndim == 4 and images.shape[1] == self.preprocessing.channels
        if is_whole and kernels("input", images) is not None:
            seen = Given.apply(images, constants, self.dtype, self.preprocessing.is_bgr)
            assert isinstance(seen, Tensor)
            return seen
        return self.preprocessing.apply(images, constants).to(dtype=self.dtype)

    def colors(self, images: Images) -> tuple[Tensor, Tensor, bool]:
        """What `to_input` makes of a pixel before it rounds to the network's dtype: scale and
        offset, (1, channel, 1, 1), and whether the last channel comes first."""
        return *self._constants(images.device, images.dtype), self.preprocessing.is_bgr

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.module.parameters()), torch.float32)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.module.parameters()), torch.device("cpu"))

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns that the network was made for."""
        return self.preprocessing.rows, self.preprocessing.columns

    def trace(self, rows: int | None = None, columns: int | None = None) -> Trace:
        """The operations of one pass at a picture size (its native one by default).

        Raises what `layers` does.
        """
        return self._traced(rows or self.size[0], columns or self.size[1])[0]

    def layers(self, rows: int | None = None, columns: int | None = None) -> Mapping[str, Layer]:
        """What can be addressed, in order of execution, at a picture size (native by default).

        Raises DoesNotFit when the network does not run at that size, NotAvailable where it does not
        in its dtype on its device.
        """
        return self._traced(rows or self.size[0], columns or self.size[1])[1]

    def fields(self, rows: int | None = None, columns: int | None = None) -> Mapping[str, Field]:
        """The receptive field of each layer, measured; see `featviz.network.fields`."""
        rows, columns = rows or self.size[0], columns or self.size[1]
        shape = (1, self.preprocessing.channels, rows, columns)
        return fields(self.module, self.to_input(torch.full(shape, 0.5, device=self.device)))

    def layer(self, key: str, rows: int | None = None, columns: int | None = None) -> Layer:
        """The layer of a name or read point ("conv1", "conv1/pre"). Raises UnknownName."""
        known = self.layers(rows, columns)
        name, read = split_key(key)
        if key in known:
            return known[key]
        if name not in known:
            raise UnknownName("layer", name, known, see="`featviz layers`")
        if read == "pre" and known[name].pre is None:
            raise UnknownName("read point", key, [name])
        return known[name]

    def read_point(self, key: str) -> str:
        """The one name of a read point: without "/post" where that is the default."""
        name, read = split_key(key)
        self.layer(key)
        return name if read == "post" and key not in self.layers() else key

    def operation(self, key: str, rows: int | None = None, columns: int | None = None) -> int:
        """The index of the operation that a read point stands for."""
        layer = self.layer(key, rows, columns)
        if key != layer.name and split_key(key)[1] == "pre" and layer.pre is not None:
            return layer.pre
        return layer.post

    def output_layer(self) -> str:
        """The unit layer of features that the network's output is, up to a softmax or a reshape.

        Raises DoesNotFit if there is none.
        """
        features = {
            layer.post: name
            for name, layer in self.layers().items()
            if not layer.is_view and not layer.sites
        }
        traced = self.trace()
        at = traced.outputs.get("", INPUT)
        while at != INPUT and at not in features:
            operation = traced.operations[at]
            is_alone = len(operation.inputs) == 1 and not operation.parameters
            at = operation.inputs[0] if is_alone else INPUT
        if at == INPUT:
            raise DoesNotFit(
                "a class logit", got=self.name, expected="a network that ends in features"
            )
        return features[at]

    def units(
        self, selection: str, rows: int | None = None, columns: int | None = None
    ) -> list[Unit]:
        """The units that a selection names ("blocks.4:17", "blocks.2:0-15", "*").

        Read points are checked; positions only where a picture size is given, as maps grow with
        the picture.

        Raises Malformed, UnknownName, OutOfRange.
        """
        extents = {
            name: Extent(layer.channels, layer.is_view, has_pre=layer.pre is not None)
            for name, layer in self.layers(rows, columns).items()
        }
        found = parse_selection(selection).units(extents)
        for key, position in dict.fromkeys((layer_key(u.layer, u.read), u.position) for u in found):
            sites = self.layer(key, rows, columns).sites
            if isinstance(position, tuple) and (rows or columns):
                _check_position(key, position, sites)
        return found

    def label_index(self, label: str) -> int:
        """The class of a label, by its whole name or one of its comma-separated words.

        Upper and lower case count where that finds a class, and do not otherwise.

        Raises UnknownName, DoesNotFit where the label is that of several classes.
        """
        words = [(name, *(word.strip() for word in name.split(","))) for name in self.labels]
        found = [index for index, own in enumerate(words) if label in own]
        if not found:
            folded = label.casefold()
            found = [i for i, own in enumerate(words) if folded in (w.casefold() for w in own)]
        if not found:
            raise UnknownName("class label", label, self.labels)
        if len(found) > 1:
            raise DoesNotFit(
                f"the class label {label!r}",
                got=f"the classes {', '.join(f'{i} ({self.labels[i]})' for i in found)}",
                expected="one class; give its index",
            )
        return found[0]

    def check_channel(self, key: str, channel: int) -> None:
        """Raises OutOfRange when the layer has no such channel, UnknownName for no such layer."""
        count = self.layer(key).channels
        if not 0 <= channel < count:
            raise OutOfRange("channel", channel, low=0, high=count - 1, where=f"layer {key!r}")

    def _make_constants(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(mode=False):  # kept: a later pass may need gradients
            return self.preprocessing.constants(torch.empty(0, device=device, dtype=dtype))

    def _make_traced(self, rows: int, columns: int) -> tuple[Trace, Mapping[str, Layer]]:
        if self.preprocessing.is_fixed_size and (rows, columns) != self.size:
            raise DoesNotFit(
                f"a picture for {self.name}",
                got=f"{rows}x{columns} px",
                expected=f"{self.size[0]}x{self.size[1]} px, the only size that it takes",
            )
        shape = (1, self.preprocessing.channels, rows, columns)
        try:
            with torch.inference_mode(mode=False):
                example = torch.full(shape, 0.5, device=self.device)
                traced = trace(self.module, self.to_input(example))
        except (RuntimeError, ValueError, AssertionError) as error:
            hint = str(error).splitlines()[0][:160] if str(error) else ""
            if self is not self._original:
                self._original._traced(rows, columns)  # whose refusal is of the size
                where = f"{str(self.dtype).removeprefix('torch.')} on {self.device.type}"
                there = hint or "it does not run so, without a reason given"
                raise NotAvailable(f"{self.name} in {where}", there=there) from error
            raise DoesNotFit(
                f"a picture for {self.name}",
                got=f"{rows}x{columns} px",
                expected=f"a size that the network runs at, such as {self.size[0]}x{self.size[1]}",
                hint=hint,
            ) from error
        return traced, layers(traced, self.module)


def _check_position(key: str, position: tuple[int, int], sites: tuple[int, ...]) -> None:
    """Raises OutOfRange where a layer has no such row or column; tokens stand in one column."""
    for word, at, size in zip(("row", "column"), position, (*sites, 1, 1)[:2], strict=True):
        if at >= size:
            raise OutOfRange(word, at, low=0, high=size - 1, where=f"the map of {key!r}")
