"""The judge's numbers, against definitions written out on networks whose answers are known."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from networks import Everything, network_of
from torch import Tensor, nn

from featviz.atlas import quality, standards
from featviz.atlas.evidence import (
    FORMAT,
    MEASURES,
    Evidence,
    Specificity,
    set_name,
    specificity,
)
from featviz.atlas.held_out import FAMILY, held_out
from featviz.atlas.quality import Judge, Judged, is_current, with_sets
from featviz.atlas.references import References, pink_references
from featviz.atlas.spectrum_gap import spectrum_gap
from featviz.atlas.standards import LEAST_SHARE
from featviz.engine.algebra import Objective
from featviz.engine.objectives import Channel, Direction, Likeness, Neuron
from featviz.engine.penalties import TotalVariation
from featviz.engine.recipe import default_recipe
from featviz.engine.render import images_from_hwc_uint8, render
from featviz.errors import DoesNotFit, Malformed
from featviz.image.parameterizations import Shape
from featviz.network.network import Network
from featviz.network.zoo import load
from featviz.shapes import Images

ROWS, COLUMNS = 12, 10
LIGHTS = (0.2, 0.4, 0.45, 0.7)
SCALES = (1.0, -2.0, 0.5, 4.0, 0.0)
"""Of the channels of `Scaled`; the last says nothing."""


@dataclass(frozen=True)
class Flat(References):
    """Pictures of one grey each, brighter by a tenth in the first row."""

    lights: tuple[float, ...] = LIGHTS
    name: str = "flat"
    files: tuple[str, ...] = ()

    @property
    def count(self) -> int:  # type: ignore[override]
        return len(self.lights)

    def images(self, numbers: Sequence[int], shape: Shape) -> Images:
        lights = torch.tensor([self.lights[number] for number in numbers])
        images = lights[:, None, None, None].repeat(1, shape.channels, shape.rows, shape.columns)
        images[:, :, 0] += 0.1
        return images


class Scaled(nn.Module):
    """Channel n of `layer` is SCALES[n] times the sum of the colors as the network sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, len(SCALES), 1, bias=False)
        self.layer.weight.data = torch.tensor(SCALES)[:, None, None, None].repeat(1, 3, 1, 1)
        self.after = nn.Conv2d(len(SCALES), 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.layer(images))


@pytest.fixture(scope="module")
def scaled() -> Network:
    return network_of(Scaled(), rows=ROWS, columns=COLUMNS)


@pytest.fixture(scope="module")
def planted() -> Network:
    return load("planted")


def noise(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)


def judged(network: Network, objective: Objective, pixels: np.ndarray, **settings: int) -> Judged:
    recipe = default_recipe(network, objective, size=pixels.shape[:2], **settings)
    return Judged(recipe, 0, pixels, "rendered")


def light(pixels: np.ndarray) -> float:
    """What channel 0 of `Scaled` says in the mean, in float64."""
    return float(((pixels / 255 - 0.5) / 0.25).sum(axis=2).mean())


def light_of(image: Tensor) -> float:
    return float(((image.double() - 0.5) / 0.25).sum(dim=0).mean())


def test_score_and_held_out_are_the_objective_of_these_pixels(scaled: Network) -> None:
    pixels = noise(0)
    objective = Channel("layer", 3) - 0.5 * Channel("layer", 1)
    (found,) = Judge(scaled, Flat()).evidence([judged(scaled, objective, pixels)])
    weight = 4.0 + 0.5 * 2
    variants = held_out(images_from_hwc_uint8(pixels[None]))[0]
    expected = weight * np.mean([light_of(each) for each in variants])
    # 1e-5: float32 sums of 120 values of size 12
    assert found.score == pytest.approx(weight * light(pixels), abs=1e-5)
    assert found.held_out == pytest.approx(expected, abs=1e-5)
    assert found.held_out_family == FAMILY
    assert found.references == "flat"
    assert found.spectrum_gap == spectrum_gap(pixels)
    assert (found.rank, found.rank_of, found.z, found.natural_ratio) == (None,) * 4


def test_the_score_is_that_of_the_rendering(planted: Network) -> None:
    pictures = render(planted, ["curve:3", "line:2@center", "-line:1"], size=48, steps=2)
    found = Judge(planted, pink_references(16)).evidence(
        [Judged(each.recipe, each.index, each.pixels, each.verdict) for each in pictures]
    )
    for picture, evidence in zip(pictures, found, strict=True):
        assert evidence.score == pytest.approx(picture.score, rel=1e-5)  # other slots, float32


def test_ranks_and_z_by_hand(scaled: Network) -> None:
    pixels = np.full((ROWS, COLUMNS, 3), 204, dtype=np.uint8)  # a light of 0.8
    # A light l is seen as 12 l - 6, and the first row adds 0.1 in one of 12 rows.
    seen = np.array([12 * (each + 0.1 / ROWS) - 6 for each in LIGHTS])
    standard = (12 * 0.8 - 6 - seen.mean()) / seen.std()
    # Scaled by s, mean and deviation are too: +z for positive scales, -z for the negative one, but
    # for channel 4, which is always 0: its deviation is the floor, and its z is 0.
    expected = {0: standard, 1: -standard, 2: standard, 3: standard, 4: 0.0}
    subjects = [judged(scaled, Channel("layer", channel), pixels) for channel in range(5)]
    found = Judge(scaled, Flat()).evidence(subjects)
    for channel, evidence in enumerate(found):
        assert evidence.z == pytest.approx(expected[channel], abs=1e-4)  # float32 responses
        assert evidence.rank_of == 5
    assert found[1].rank == 4
    assert found[4].rank == 3
    assert all(found[channel].rank in (0, 1, 2) for channel in (0, 2, 3))
    (minus,) = Judge(scaled, Flat()).evidence([judged(scaled, -Channel("layer", 1), pixels)])
    assert minus.z == pytest.approx(standard, abs=1e-4)
    assert minus.rank == 0
    assert minus.score == pytest.approx(2 * (12 * 0.8 - 6), abs=1e-5)
    (dark,) = Judge(scaled, Flat()).evidence([judged(scaled, -Channel("layer", 0), pixels)])
    assert dark.z == pytest.approx(-standard, abs=1e-4)
    assert dark.rank in (2, 3, 4)  # below 1 and 4; 0, 2 and 3 are equal up to rounding


def test_channels_that_are_silent_on_the_references_get_a_floor() -> None:
    # `layer` says 0 in channel 4 for the references, whatever their light; this picture is tinted.
    module = Scaled()
    module.layer.weight.data[4] = torch.tensor([0.02, -0.02, 0.0])[:, None, None]
    network = network_of(module, rows=ROWS, columns=COLUMNS)
    pixels = np.full((ROWS, COLUMNS, 3), (204, 102, 153), dtype=np.uint8)
    (found,) = Judge(network, Flat()).evidence([judged(network, Channel("layer", 4), pixels)])
    seen = np.array([12 * (each + 0.1 / ROWS) - 6 for each in LIGHTS])
    median = np.median([seen.std() * abs(scale) for scale in SCALES])
    expected = 0.02 * (204 - 102) / 255 / 0.25 / (LEAST_SHARE * median)
    assert found.z == pytest.approx(expected, rel=1e-3)


def test_a_neuron_is_ranked_by_its_own_place(scaled: Network) -> None:
    pixels = np.full((ROWS, COLUMNS, 3), 51, dtype=np.uint8)
    pixels[0, 3] = 255
    places = [("center", "center"), (0, 3)]
    asked = [judged(scaled, Neuron("layer", 0, *each), pixels) for each in places]
    center, corner = Judge(scaled, Flat()).evidence(asked)
    lights = np.array([12 * each - 6 for each in LIGHTS])
    assert center.score == pytest.approx(12 * 0.2 - 6, abs=1e-5)
    assert center.z == pytest.approx((12 * 0.2 - 6 - lights.mean()) / lights.std(), abs=1e-4)
    assert corner.score == pytest.approx(6, abs=1e-5)
    first_row = lights + 1.2
    assert corner.z == pytest.approx((6 - first_row.mean()) / first_row.std(), abs=1e-4)


def test_a_picture_s_numbers_do_not_depend_on_its_mates(planted: Network) -> None:
    units = ["curve:3", "curve:4", "line:2@center", "channel(line, 0) + channel(gabor, 3)"]
    pictures = render(planted, units, size=48, steps=2)
    asked = [Judged(each.recipe, each.index, each.pixels, each.verdict) for each in pictures]
    references = pink_references(20)
    together = Judge(planted, references).evidence([*asked, *asked[::-1]])
    assert together[:4] == together[:3:-1]
    for each, found in zip(asked, together, strict=False):
        assert Judge(planted, references).evidence([each]) == [found]
    judge = Judge(planted, references)
    judge.prepare(each.recipe for each in asked)
    assert judge.evidence(asked) == together[:4]


def test_passes_of_several_pictures_say_the_same(
    planted: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = ["curve:3", "curve:4", "line:2@center", "curve:5", "-curve:6"]
    pictures = render(planted, units, size=48, steps=2)
    asked = [Judged(each.recipe, each.index, each.pixels, each.verdict) for each in pictures]
    references = pink_references(20)
    alone = Judge(planted, references).evidence(asked)
    for at_once, pixels in ((3, 10**9), (1, 5 * 48 * 48)):
        monkeypatch.setitem(quality.AT_ONCE, "cpu", at_once)
        monkeypatch.setitem(standards.PIXELS_AT_ONCE, "cpu", pixels)
        together = Judge(planted, references).evidence(asked)
        assert Judge(planted, references).evidence(asked[1:2]) == together[1:2]
        for one, other in zip(alone, together, strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-5)  # float32 in other batches
            assert one.held_out == pytest.approx(other.held_out, rel=1e-5)
            assert one.z == pytest.approx(other.z, rel=1e-4)
            assert (one.rank, one.spectrum_gap) == (other.rank, other.spectrum_gap)


def test_references_are_measured_once(scaled: Network) -> None:
    asked: list[int] = []

    class Counted(Flat):
        def images(self, numbers: Sequence[int], shape: Shape) -> Images:
            asked.extend(numbers)
            return super().images(numbers, shape)

    judge = Judge(scaled, Counted())
    pictures = [judged(scaled, Channel("layer", n), noise(n)) for n in range(3)]
    judge.evidence(pictures)
    assert sorted(asked) == [0, 1, 2, 3]
    judge.evidence(pictures)
    assert len(asked) == 4
    judge.evidence([judged(scaled, Channel("layer", 0), noise(0)[:8])])
    assert len(asked) == 8


def test_pictures_that_are_not_rendered_have_nulls(scaled: Network) -> None:
    good = judged(scaled, Channel("layer", 0), noise(0))
    dead, broken = (replace(good, verdict=verdict) for verdict in ("dead", "not finite"))
    found = Judge(scaled, Flat()).evidence([dead, good, broken])
    assert found[0] == Evidence("flat", score=found[1].score)
    assert found[2] == Evidence("flat")
    assert found[1].rank is not None
    assert Judge(scaled, Flat()).evidence([]) == []


def test_what_compares_pictures_is_left_out_and_penalties_do_not_hide_the_unit(
    scaled: Network,
) -> None:
    pixels = noise(0)
    objective = Channel("layer", 0) - 3 * Likeness("after") - 0.25 * TotalVariation()
    (found,) = Judge(scaled, Flat()).evidence([judged(scaled, objective, pixels, count=2)])
    values = pixels.astype(np.float64) / 255
    variation = np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean()
    assert found.score == pytest.approx(light(pixels) - 0.25 * variation, abs=1e-5)
    assert found.rank_of == 5
    alone, direction = Judge(scaled, Flat()).evidence(
        [
            judged(scaled, -1 * Likeness("after"), pixels, count=2),
            judged(scaled, Direction("layer", (1.0,) * 5), pixels),
        ]
    )
    assert alone == Evidence("flat")
    assert direction.score == pytest.approx(sum(SCALES) * light(pixels), abs=1e-4)
    assert direction.rank is None


def test_a_response_that_is_not_finite_has_no_rank() -> None:
    module = Scaled()
    module.layer.weight.data[3] = 3e38
    network = network_of(module, rows=ROWS, columns=COLUMNS, dtype=torch.float32)
    asked = [judged(network, Channel("layer", n), noise(0) // 2 + 127) for n in (3, 0)]
    overflown, other = Judge(network, Flat()).evidence(asked)
    assert (overflown.score, overflown.rank, overflown.held_out) == (None, None, None)
    assert other.score is not None
    json.dumps(other.to_data(), allow_nan=False)


def test_natural_ratios_are_by_the_best_photograph(scaled: Network) -> None:
    references = Flat(files=("a.png", "b.png", "c.png", "d.png"))
    pixels = np.full((ROWS, COLUMNS, 3), 204, dtype=np.uint8)
    asked = [judged(scaled, weight * Channel("layer", 0), pixels) for weight in (1, -1)]
    most, least = Judge(scaled, references).evidence(asked)
    best = 12 * (0.7 + 0.1 / ROWS) - 6
    assert most.natural_best == "d.png"
    lights = sorted(zip(LIGHTS, references.files, strict=True), reverse=True)
    assert [file for file, *_ in most.exemplars] == [file for _, file in lights[:-1]]
    for (_, value, _), (light, _) in zip(most.exemplars, lights[:-1], strict=True):
        assert value == pytest.approx(12 * (light + 0.1 / ROWS) - 6, abs=1e-3)
    assert [file for file, *_ in least.exemplars] == [file for _, file in lights[:0:-1]]
    assert most.natural_ratio == pytest.approx((12 * 0.8 - 6) / best, abs=1e-4)
    assert least.natural_best == "a.png"
    assert least.natural_ratio == pytest.approx(-(12 * 0.8 - 6) / (6 - 12 * (0.2 + 0.1 / ROWS)))
    some = tuple(0.5 + number / 100 for number in range(9))
    many = Judge(scaled, Flat(some, files=tuple("abcdefghi"))).evidence(asked[:1])
    assert [file for file, *_ in many[0].exemplars] == list("ihgfedcb")
    alike = Judge(scaled, Flat((0.5,) * 9, files=tuple("abcdefghi"))).evidence(asked[:1])
    assert (alike[0].exemplars, alike[0].natural_ratio, alike[0].path_flag) == ((), None, None)
    odd = Judge(scaled, Flat((0.5, 0.5, 0.7, 0.5), files=tuple("abcd"))).evidence(asked[:1])
    assert [file for file, *_ in odd[0].exemplars] == ["c"]
    tied = Judge(scaled, Flat((0.2, *(0.7,) * 9), files=tuple("abcdefghij"))).evidence(asked[:1])
    assert (tied[0].exemplars, tied[0].natural_best, tied[0].path_flag) == ((), None, None)
    alone = Judge(scaled, Flat((0.7,), files=("a",))).evidence(asked[:1])
    assert alone[0].exemplars == ()
    dark = Judge(scaled, Flat((0.1, 0.2), files=("a.png", "b.png")))
    (none,) = dark.evidence(asked[:1])
    assert (none.natural_best, none.natural_ratio) == ("b.png", None)  # its value is below 0


def test_a_path_is_there_with_photographs_alone(scaled: Network) -> None:
    asked = [judged(scaled, Channel("after", 0), noise(0))]
    (without,) = Judge(scaled, Flat()).evidence(asked)
    assert (without.path_similarity, without.path_flag) == (None, None)
    (found,) = Judge(scaled, Flat(files=("a", "b", "c", "d"))).evidence(asked)
    assert found.path_similarity is not None
    assert 0 <= found.path_similarity <= 1
    assert isinstance(found.path_flag, bool)
    (few,) = Judge(scaled, Flat(LIGHTS[:3], files=("a", "b", "c"))).evidence(asked)
    assert few.natural_best is not None
    assert (few.path_similarity, few.path_flag) == (None, None)


def test_sets_have_the_cosines_of_standardised_means() -> None:
    module = Everything()
    network = network_of(module)
    references = pink_references(12)
    judge = Judge(network, references)
    objective = Channel("second", 2)
    first, second = (judged(network, objective, noise(n), seed=n) for n in (0, 1))
    a_set = [
        replace(judged(network, objective, noise(2 + n), seed=7, count=2), index=n) for n in (0, 1)
    ]
    other = judged(network, Channel("second", 3), noise(4))
    dead = replace(judged(network, objective, noise(5), seed=9), verdict="dead")
    pictures = [first, a_set[0], other, second, a_set[1], dead]
    found = with_sets(judge, list(zip(pictures, judge.evidence(pictures), strict=True)))

    def means(images: Tensor) -> np.ndarray:
        first = module.relu(module.first(network.to_input(images.double())))
        recorded = module.relu6(module.norm(module.second(first)))
        return recorded.mean(dim=(2, 3)).detach().numpy()

    natural = means(references.images(range(12), Shape(3, ROWS, COLUMNS)))
    sd = natural.std(axis=0)
    sd = np.maximum(sd, LEAST_SHARE * np.median(sd))

    def cosine(one: Judged, two: Judged) -> float:
        vectors = [
            (means(images_from_hwc_uint8(each.pixels[None]))[0] - natural.mean(axis=0)) / sd
            for each in (one, two)
        ]
        return float(vectors[0] @ vectors[1] / np.prod([np.linalg.norm(each) for each in vectors]))

    # 1e-3: responses in float32, divided by deviations of down to 0.01
    assert found[0].seed_stability == pytest.approx(cosine(first, second), abs=1e-3)
    assert found[3].seed_stability == found[0].seed_stability
    assert found[1].diversity == pytest.approx(1 - cosine(*a_set), abs=1e-3)
    assert found[4].diversity == found[1].diversity
    assert found[0].diversity is found[1].seed_stability is found[2].seed_stability is None
    assert found[2].diversity is found[5].diversity is found[5].seed_stability is None
    assert [each.score for each in found] == [each.score for each in judge.evidence(pictures)]


def test_two_sets_of_other_seeds_are_compared_across(scaled: Network) -> None:
    judge = Judge(scaled, Flat())
    objective = Channel("layer", 0)
    pixels = noise(0)
    sets = [
        replace(judged(scaled, objective, shown, seed=seed, count=2), index=index)
        for seed in (0, 5)
        for index, shown in enumerate((pixels, 255 - pixels))
    ]
    found = with_sets(judge, [(each, Evidence("flat")) for each in sets])
    # All channels say the same, so two pictures are alike or opposite, here with sure signs.
    signs = [np.sign(float(judge.direction(each)[0])) for each in sets[:2]]
    inside = signs[0] * signs[1]
    assert found[0].diversity == pytest.approx(1 - inside, abs=1e-6)
    assert found[0].seed_stability == pytest.approx((2 + 2 * inside) / 4, abs=1e-6)


def test_pictures_of_the_same_noise_say_nothing_of_stability(scaled: Network) -> None:
    judge = Judge(scaled, Flat())
    dark, light_ = np.zeros_like(noise(0)), np.full_like(noise(0), 255)
    # Seeds 0 and 1, then 1 and 2: the second of the first set began as the first of the other.
    shown = ((0, 0, dark), (0, 1, light_), (1, 0, light_), (1, 1, dark))
    sets = [
        replace(judged(scaled, Channel("layer", 0), pixels, seed=seed, count=2), index=index)
        for seed, index, pixels in shown
    ]
    found = with_sets(judge, [(each, Evidence("flat")) for each in sets])
    directions = [judge.direction(each) for each in sets]
    apart = [(0, 2), (0, 3), (1, 3)]
    expected = sum(float(directions[one] @ directions[two]) for one, two in apart) / 3
    assert found[0].seed_stability == pytest.approx(expected, abs=1e-6)
    with_the_pair = (3 * expected + float(directions[1] @ directions[2])) / 4
    assert abs(with_the_pair - expected) > 0.1
    assert {each.of_set for each in found} == {set_name(each.key for each in sets)}


def test_pictures_of_another_network_or_size_are_refused(scaled: Network) -> None:
    good = judged(scaled, Channel("layer", 0), noise(0))
    judge = Judge(scaled, Flat())
    foreign = replace(good, recipe=replace(good.recipe, network="0" * 64, network_name="other"))
    with pytest.raises(DoesNotFit, match="a picture of other"):
        judge.evidence([foreign])
    with pytest.raises(DoesNotFit, match=r"pixels of .*: got \(11, 10, 3\), expected \(12, 10, 3"):
        judge.evidence([replace(good, pixels=noise(0)[1:])])


def test_evidence_survives_json_and_bad_evidence_is_refused() -> None:
    whole = Evidence(
        "images:abc", 2.0, 1.5, rank=0, rank_of=7, z=3.5, spectrum_gap=0.1, diversity=0.2,
        seed_stability=0.9, natural_ratio=1.2, path_similarity=0.4, path_flag=False,
        picture="ab", exemplars=(("a.png", 1.7, "cd"), ("b.png", -0.5, "")), of_set="ef",
    )  # fmt: skip
    for each in (whole, Evidence("pink-512")):
        assert Evidence.from_data(json.loads(json.dumps(each.to_data()))) == each
    data = whole.to_data()
    assert (data["format"], data["measures"], data["held_out_ratio"]) == (FORMAT, MEASURES, 0.75)
    for broken, words in [
        (None, "format"),
        ({**data, "format": FORMAT + 1}, "format 1"),
        ({k: v for k, v in data.items() if k != "rank"}, "no 'rank'"),
        ({**data, "rang": 3}, "'rang'"),
        ({**data, "rank": 0.5}, "rank 0.5"),
        ({**data, "score": "high"}, "score 'high'"),
        ({**data, "path_flag": 1}, "path_flag 1"),
        ({**data, "references": None}, "references None"),
        ({**data, "exemplars": [["a.png"]]}, "exemplars"),
        ({**data, "exemplars": [["a.png", "high", ""]]}, "exemplars"),
        ({**data, "exemplars": [["a.png", 2]]}, "exemplars"),
        ({**data, "picture": None}, "picture None"),
        ({**data, "exemplars": None}, "exemplars None"),
    ]:
        with pytest.raises(Malformed, match=words):
            Evidence.from_data(broken)


@pytest.mark.parametrize(
    ("score", "under", "expected"),
    [(2.0, 1.0, 0.5), (0.0, 1.0, None), (-2.0, -1.0, None), (None, None, None), (2.0, -1.0, -0.5)],
)
def test_a_share_of_a_score_that_is_not_above_0_is_none(
    score: float | None, under: float | None, expected: float | None
) -> None:
    assert Evidence("pink-512", score, under).held_out_ratio == expected


def test_evidence_of_other_references_or_measures_is_not_current() -> None:
    evidence = Evidence("pink-512", picture="ab")
    assert is_current(evidence, pink_references(), "ab")
    assert not is_current(evidence, pink_references(), "cd")
    assert not is_current(evidence, pink_references(64), "ab")
    older = replace(evidence, measures=MEASURES - 1)
    assert not is_current(older, pink_references(), "ab")


def test_a_layer_is_summarised_by_its_ranks() -> None:
    ranks = [0, 0, 3, 4, 5, None]
    found = specificity(ranks)
    assert found == Specificity(count=5, top_1=0.4, top_5=0.8, median=3.0)
    assert specificity([None]) is None
