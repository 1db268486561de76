"""Recipes to pictures: in order, with their evidence, and nothing begins that cannot end."""

import base64
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation import pictures
from kerneling import needs_compiler
from networks import Everything, network_of
from PIL import Image as PillowImage

from featviz.engine.algebra import Objective
from featviz.engine.execution import as_executed, check_device, execution
from featviz.engine.objectives import Channel, Direction, Likeness, Neuron
from featviz.engine.optimize import clean_values
from featviz.engine.picture import Picture, Pictures, read_evidence
from featviz.engine.recipe import Recipe, default_recipe, fast_preset, lucid_preset
from featviz.engine.render import (
    hwc_uint8_from_images,
    images_from_hwc_uint8,
    objectives_of,
    recipes_of,
    render,
    render_each,
)
from featviz.errors import (
    DoesNotFit,
    FeatvizError,
    Malformed,
    NotAvailable,
    OutOfRange,
    UnknownName,
)
from featviz.image.parameterizations import Pixel
from featviz.image.transforms import Jitter, Stack, strong
from featviz.kernels.host import loaded
from featviz.network.network import Network
from featviz.network.preprocessing import Preprocessing
from featviz.network.zoo import load


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of(Everything(), dtype=torch.float32)


@pytest.fixture(scope="module")
def picture(network: Network) -> Picture:
    return render(network, "third:1", steps=6)[0]


def test_pictures_come_in_the_order_in_which_they_are_asked_for(network: Network) -> None:
    recipe = default_recipe(network, Channel("head", 3), steps=2, seed=5)
    asked = ["third:2,0", "channel(first, 1) - third:4", Neuron("second", 1), recipe, "third:0"]
    made = render(network, asked, steps=2, slots=2)
    words = [str(each.recipe.objective) for each in made]
    assert words == [
        *("channel(third, 2)", "channel(third, 0)", "channel(first, 1) - channel(third, 4)"),
        *("neuron(second, 1, center, center)", "channel(head, 3)", "channel(third, 0)"),
    ]
    assert made[4].recipe is recipe
    assert np.array_equal(made[1].pixels, made[5].pixels)
    assert isinstance(made[1:3], Pictures)
    assert [each.recipe for each in made[1:3]] == [made[1].recipe, made[2].recipe]


def test_settings_reach_every_recipe_but_whole_ones(network: Network) -> None:
    recipe = default_recipe(network, Channel("head", 3), steps=2)
    made = render(network, ["third:0", recipe], steps=3, seed=4, size=(9, 13))
    assert [(p.steps, p.recipe.seed, p.pixels.shape) for p in made] == [
        (3, 4, (9, 13, 3)),
        (2, 0, (12, 10, 3)),
    ]


def test_coupled_pictures_come_one_after_another(network: Network) -> None:
    wish = Channel("third", 1) - Likeness("third")
    made = render(network, [wish, "third:2"], count=3, steps=2)
    assert [each.index for each in made] == [0, 1, 2, 0, 1, 2]
    with pytest.raises(DoesNotFit, match="the slots: got 2, expected at least 3"):
        render(network, wish, count=3, steps=2, slots=2)


def test_a_batch_that_is_not_full_gives_what_was_asked(network: Network) -> None:
    assert len(render(network, "third:0-2", steps=2, slots=7)) == 3
    assert len(render(network, "third:0-4", steps=2, slots=2)) == 5
    assert len(render(network, [], steps=2)) == 0


def test_the_score_is_that_of_the_8_bit_picture_without_transforms(
    network: Network, picture: Picture
) -> None:
    assert picture.pixels.dtype == np.uint8
    shown = images_from_hwc_uint8(picture.pixels[None])
    expected = clean_values(network, picture.recipe, shown).item()
    assert picture.score == pytest.approx(expected, rel=1e-6)  # float32, another batch
    assert picture.verdict == "rendered"
    assert len(picture.course) == picture.steps == 6


def test_a_unit_that_never_speaks_is_dead(network: Network) -> None:
    module = Everything()
    module.third.bias.data[1] = -1000.0  # type: ignore[index]
    made = render(network_of(module, dtype=torch.float32), "third:0-1", steps=20)
    assert [each.verdict for each in made] == ["rendered", "dead"]
    assert made[1].score == 0


def test_a_picture_of_one_step_is_not_called_dead(network: Network) -> None:
    assert render(network, "third:1", steps=1)[0].verdict == "rendered"


def test_a_picture_that_is_not_finite_says_so(network: Network) -> None:
    made = render(network, [1e39 * Channel("third", 1), "third:1"], steps=3)
    assert [each.verdict for each in made] == ["not finite", "rendered"]
    assert made[0].evidence()["score"] is None
    assert made[0].steps == 0
    assert json.loads(json.dumps(made[0].evidence()))["verdict"] == "not finite"
    made[0].encoded()


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_file_carries_its_evidence(suffix: str, picture: Picture, tmp_path: Path) -> None:
    path = picture.save(tmp_path / "new" / f"one{suffix}")
    data = read_evidence(path)
    assert Recipe.from_data(data["recipe"]) == picture.recipe
    assert data["digest"] == picture.recipe.digest
    assert data["score"] == picture.score
    assert data["execution"]["slots"] == 1
    with PillowImage.open(path) as image:
        assert np.array_equal(np.asarray(image), picture.pixels)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_the_same_recipe_and_execution_are_the_same_bytes(
    network: Network, picture: Picture
) -> None:
    assert render(network, "third:1", steps=6)[0].encoded() == picture.encoded()


def test_grey_pictures_are_files_too(picture: Picture, tmp_path: Path) -> None:
    grey = replace(picture, pixels=picture.pixels[:, :, :1])
    with PillowImage.open(grey.save(tmp_path / "grey.png")) as image:
        assert np.array_equal(np.asarray(image), grey.pixels[:, :, 0])
    with pytest.raises(DoesNotFit, match="a picture of 2 channels"):
        replace(picture, pixels=picture.pixels[:, :, :2]).encoded()


def test_files_that_are_not_ours_are_refused(picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"image format '.gif'; .*\.png"):
        picture.save(tmp_path / "one.gif")
    with pytest.raises(NotAvailable, match="there is no such file"):
        read_evidence(tmp_path / "absent.png")
    PillowImage.new("RGB", (2, 2)).save(tmp_path / "plain.png")
    with pytest.raises(Malformed, match="an image that featviz saved"):
        read_evidence(tmp_path / "plain.png")
    (tmp_path / "words.png").write_text("words")
    with pytest.raises(Malformed, match="PNG or WebP image"):
        read_evidence(tmp_path / "words.png")


def test_a_file_that_cannot_be_written_leaves_nothing(picture: Picture, tmp_path: Path) -> None:
    (tmp_path / "one.png").mkdir()
    with pytest.raises(NotAvailable, match=r"writing '.*one.png'"):
        picture.save(tmp_path / "one.png")
    assert [p.name for p in tmp_path.iterdir()] == ["one.png"]
    (tmp_path / "file").write_text("")
    with pytest.raises(NotAvailable):
        picture.save(tmp_path / "file" / "one.png")


def test_bytes_are_the_nearest() -> None:
    images = torch.tensor([0.0, 0.1, 0.499 / 255, 0.501 / 255, 1.0, 2.0, -1.0, math.nan])
    pixels = hwc_uint8_from_images(images.reshape(1, 1, 2, 4)).reshape(-1)
    assert pixels.tolist() == [0, 26, 0, 1, 255, 255, 0, 128]
    image = torch.zeros(1, 3, 2, 4)
    image[0, 2, 1, 3] = 1
    assert hwc_uint8_from_images(image)[0, 1, 3].tolist() == [0, 0, 255]
    whole = pictures(2).float().mul(255).round().div(255)
    assert torch.equal(images_from_hwc_uint8(hwc_uint8_from_images(whole)), whole)


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        ("thrid:1", UnknownName, "no layer 'thrid'; nearest: third"),
        ("third:5", OutOfRange, "channel 5"),
        ("third:x", Malformed, "cannot read the selection"),
        ("chanel(third, 1)", UnknownName, "nearest: channel"),
        ("channel(third, 5)", OutOfRange, "channel 5"),
        ("channel(third, x)", DoesNotFit, "Channel.channel: got 'x', expected int"),
        ("third:1@6,0", OutOfRange, "row 6"),
        ("head/pre:1", UnknownName, "read point 'head/pre'"),
        ("third:1 - first:0 (", FeatvizError, "objective"),
        (Neuron("third", 1, 0, 9), OutOfRange, "column 9"),
    ],
)
def test_what_is_not_there_is_named_before_the_first_step(
    wish: str, error: type[FeatvizError], words: str, network: Network
) -> None:
    good = default_recipe(network, Channel("third", 0), steps=1)
    before = network.module.get_submodule("third").register_forward_hook(_fail_with_gradients)
    with pytest.raises(error, match=words):
        render(network, [good, wish], steps=1, slots=1)
    before.remove()


def _fail_with_gradients(*_: object) -> None:
    assert not torch.is_grad_enabled(), "a step was made"


def test_stored_recipes_are_checked_before_the_first_step(network: Network) -> None:
    good = default_recipe(network, Channel("third", 0), steps=1)
    for wrong, error in (
        (replace(good, network="0" * 32), DoesNotFit),
        (replace(good, objective=Channel("third", 99)), OutOfRange),
        (replace(good, objective=Channel("thrid", 0)), UnknownName),
        (replace(good, objective=Neuron("third", 0, 50, 0)), OutOfRange),
    ):
        steps: list[float] = []
        how = execution(slots=1)
        with pytest.raises(error):
            list(render_each(network, [good, wrong], how, on_progress=steps.append))
        assert not steps


def test_progress_adds_up_to_the_pictures(network: Network) -> None:
    recipes = [
        default_recipe(network, Channel("third", unit), steps=3, transforms=Stack())
        for unit in range(5)
    ]
    done: list[float] = []
    made = list(render_each(network, recipes, execution(slots=2), on_progress=done.append))
    assert len(made) == 5
    assert sum(done) == pytest.approx(5)


def test_recipes_are_skipped_when_their_turn_comes(network: Network) -> None:
    recipes = [default_recipe(network, Channel("third", unit), steps=3) for unit in range(5)]
    how = execution(slots=2)
    whole = {each.recipe.digest: each for each in render_each(network, recipes, how)}
    asked: list[int] = []

    def skips(recipe: Recipe) -> bool:
        number = recipes.index(recipe)
        assert len(made) >= len(asked) - 2  # only when there is a place for it
        asked.append(number)
        return number in (0, 3)

    made: list[Picture] = []
    made.extend(render_each(network, recipes, how, skips=skips))
    assert asked == [0, 1, 2, 3, 4]
    assert sorted(recipes.index(each.recipe) for each in made) == [1, 2, 4]
    for each in made:
        assert each.encoded() == whole[each.recipe.digest].encoded()
    assert list(render_each(network, recipes, how, skips=lambda _: True)) == []


def test_executions_are_checked() -> None:
    with pytest.raises(OutOfRange, match="slots 0"):
        execution(slots=0)
    with pytest.raises(UnknownName, match="dtype 'float23'; nearest: float32"):
        execution(slots=1, dtype="float23")
    with pytest.raises(UnknownName, match="device 'gpu'"):
        check_device("gpu")
    with pytest.raises(NotAvailable, match=r"'cuda:99' is not available; there is: cpu"):
        check_device("cuda:99")


def test_executions_say_how_they_differ() -> None:
    one, other = execution(slots=1), execution(slots=2)
    assert one.differences(one) == []
    assert one.differences(other) == ["slots 2 instead of 1"]
    older = replace(one, versions=tuple({**dict(one.versions), "torch": "2.0"}.items()))
    assert one.differences(older) == [f"torch 2.0 instead of {torch.__version__}"]


@pytest.mark.parametrize(("dtype", "median"), [("float64", 0.005), ("bfloat16", 0.02)])
def test_other_precisions_agree_on_the_score(dtype: str, median: float, network: Network) -> None:
    """Rounding is amplified by many steps, so pixels differ and scores agree."""
    units = ["first:*", "second:*", "third:*", "tokens:*"]
    single, other = render(network, units, steps=32), render(network, units, steps=32, dtype=dtype)
    assert {each.execution.dtype for each in other} == {dtype}
    differences = [
        abs(two.score - one.score) / max(abs(one.score), 0.1)
        for one, two in zip(single, other, strict=True)
    ]
    assert np.median(differences) <= median


class Paired(torch.nn.Sequential):
    """Convolutions of which most have pairs, there and back."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            super().__init__(
                *(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU()),
                *(torch.nn.Conv2d(8, 16, 1), torch.nn.ReLU()),
                *(torch.nn.Conv2d(16, 6, 5, padding=2), torch.nn.ReLU6()),
                torch.nn.Conv2d(6, 12, 1),
            )


@needs_compiler
def test_pictures_of_rounded_products_differ_and_score_alike() -> None:
    network = network_of(Paired(), dtype=torch.float32)
    units = ["2:*", "4:*", "6:*"]
    exact = render(network, units, steps=24, size=24)
    rounded = render(network, units, steps=24, size=24, dtype="bfloat16-products")
    few = render(network, units, steps=24, size=24, dtype="bfloat16-products", slots=3)
    live = [each for each in zip(exact, rounded, few, strict=True) if each[0].score > 0.01]
    assert len(live) > 20
    assert all(one.course != two.course for one, two, _ in live)
    assert all(np.array_equal(two.pixels, three.pixels) for _, two, three in live)
    shares = [abs(two.score - one.score) / one.score for one, two, _ in live]
    assert np.median(shares) < 0.02
    assert {each.execution.dtype for each in rounded} == {"bfloat16-products"}


def test_products_are_rounded_by_kernels_alone(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loaded() is not None:
        found = as_executed(network, "cpu", "bfloat16-products")
        assert (found.dtype, found.in_pairs) == (torch.float32, True)
        assert as_executed(found, "cpu", "float32") is network.at("cpu", torch.float32)
    found = as_executed(network, "cpu", "bfloat16")
    assert (found.dtype, found.in_pairs) == (torch.bfloat16, False)
    with pytest.raises(UnknownName, match="float16"):
        as_executed(network, "cpu", "float16")
    monkeypatch.setattr("featviz.engine.execution.loaded", lambda: None)
    for refused in (
        lambda: as_executed(network, "cpu", "bfloat16-products"),
        lambda: execution(slots=1, dtype="bfloat16-products"),
        lambda: render(network, "first:1", dtype="bfloat16-products", slots=2),
    ):
        with pytest.raises(NotAvailable, match="others have bfloat16"):
            refused()


def test_a_network_of_one_channel_gives_grey_pictures() -> None:
    made_for = Preprocessing(mean=(0.5,), sd=(0.5,), rows=8, columns=9)
    grey = Network(torch.nn.Conv2d(1, 2, 3).eval(), made_for, name="grey")
    with pytest.raises(UnknownName):
        render(grey, "conv:0")
    wrapped = Network(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)), made_for, name="grey")
    made = render(wrapped, "0:1", steps=2)
    assert made[0].pixels.shape == (8, 9, 1)
    made[0].encoded()


def test_a_notebook_shows_pictures_with_their_words(picture: Picture) -> None:
    page = Pictures([picture])._repr_html_()
    assert "channel(third, 1)" in page
    assert "data:image/png;base64," in page
    assert repr(Pictures([picture])).startswith("Pictures([channel(third, 1): ")
    png = picture._repr_png_()
    assert png is not None
    assert png[:4] == b"\x89PNG"


def test_a_notebook_shows_names_as_text(picture: Picture) -> None:
    objective = Channel("<b>", 1) - Direction("third", torch.rand(40))
    named = replace(picture, recipe=replace(picture.recipe, objective=objective))
    page = Pictures([named])._repr_html_()
    assert "<b>" not in page
    assert page.count("channel(&lt;b&gt;, 1) - direction(third, 40 numbers, 0.0)") == 2
    assert len(page) < 300 + len(base64.b64encode(named.encoded()))


def test_pictures_of_four_channels_show_no_image(picture: Picture, tmp_path: Path) -> None:
    four = replace(picture, pixels=np.zeros((4, 4, 4), dtype=np.uint8))
    assert four._repr_png_() is None
    assert "4 channels: no image" in Pictures([four])._repr_html_()
    with pytest.raises(DoesNotFit, match="a picture of 4 channels, expected 1 or 3"):
        four.save(tmp_path / "four.png")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ("third:1 - 0.5 * third:3", Channel("third", 1) - 0.5 * Channel("third", 3)),
        ("2 * third:1", 2 * Channel("third", 1)),
        ("2*third:1", 2 * Channel("third", 1)),
        ("-third:1", -Channel("third", 1)),
        ("th*d:1", Channel("third", 1)),
    ],
)
def test_addresses_may_be_calculated_with(wish: str, expected: Objective, network: Network) -> None:
    (found,) = objectives_of(network, wish)
    assert found.terms == expected.terms


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("third:1 - 3", "cannot read the selection"),
        ("third:1 - 0.5 * ", "cannot read the objective .* at its end"),
        ("", "cannot read the selection"),
    ],
)
def test_what_is_neither_is_refused_as_what_it_looks_like(
    wish: str, words: str, network: Network
) -> None:
    with pytest.raises(Malformed, match=words):
        objectives_of(network, wish)


def test_settings_may_be_words(network: Network) -> None:
    (one,) = recipes_of(network, "third:1", transforms="strong", parameterization="pixel")
    assert (one.transforms, one.parameterization) == (strong(), Pixel())
    (two,) = recipes_of(network, "third:1", preset="lucid", steps=3, transforms="none", size=24)
    expected = lucid_preset(default_recipe(network, Channel("third", 1), size=24))
    assert two == replace(expected, steps=3, transforms=Stack())
    (quick,) = recipes_of(network, "third:1", preset="fast", size=24)
    usual = default_recipe(network, Channel("third", 1), size=24)
    assert quick == fast_preset(usual)
    (quick,) = recipes_of(network, "third:1", preset="fast", size=24, parameterization="pixel")
    assert quick == replace(usual, steps=32, parameterization=Pixel())
    (three,) = recipes_of(network, "third:1", preset="lucid", transforms=Stack((Jitter(1),)))
    assert three.transforms == Stack((Jitter(1),))
    for name in ("preset", "transforms", "parameterization"):
        with pytest.raises(UnknownName, match=f"no {name} 'luzid'"):
            recipes_of(network, "third:1", **{name: "luzid"})


def test_the_default_read_point_has_one_name_and_one_digest(network: Network) -> None:
    written_out = default_recipe(network, Channel("second/post", 1) - Neuron("third/post", 0))
    short = default_recipe(network, Channel("second", 1) - Neuron("third", 0))
    assert written_out.digest == short.digest
    before = default_recipe(network, Channel("second/pre", 1) - Neuron("third", 0))
    assert before.digest != short.digest


def test_a_transformer_is_rendered_at_its_own_size() -> None:
    transformer = load("timm:vit_tiny_patch16_224", weights="none")
    (picture,) = render(transformer, "blocks.0.mlp.fc1:3", steps=8)
    assert picture.pixels.shape == (224, 224, 3)
    assert picture.course[-1] > picture.course[0]
    with pytest.raises(DoesNotFit, match="224x224 px, the only size"):
        render(transformer, "blocks.0.mlp.fc1:3", size=96, steps=1)
