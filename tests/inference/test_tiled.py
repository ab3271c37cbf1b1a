from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from support.images import generated_photograph
from support.networks import busy_network, faithful_network
from trinas.config import UpscaleOptions
from trinas.device import pick_precision
from trinas.errors import TrinasError, UpscaleError
from trinas.images.image import Image, to_levels
from trinas.inference import tiled
from trinas.inference.tensors import bleed_colour, clamp_to_neighbourhood, find_neighbourhood_range, resize
from trinas.inference.tiled import TiledUpscaler
from trinas.inference.tiles import count_tiles, tile_grid
from trinas.networks.cost import compute_cost
from trinas.networks.network import Network
from trinas.networks.space import ArchSpec, CellSpec, SlotSpec
from trinas.training.degrade import imresize
from trinas.training.metrics import evaluate_model
from trinas.zoo.bundled import list_bundled_models
from trinas.zoo.folder import Model, load_config, load_model
from trinas.zoo.record import ModelConfig, TrainingRecord


def slots(*pairs):
    return CellSpec(tuple(SlotSpec(primitive, width) for primitive, width in pairs))


SPECS = {
    "edge x3": ArchSpec(
        "edge", 3, 8, (slots(("mixer7", 12), ("gated", 8)), slots(("skip", 4), ("conv3x3", 8))), long_skip=True
    ),
    "pixel shuffle x4": ArchSpec("paper", 4, 8, (slots(("dws", 12), ("residual", 8)),), plain_convs=1),
    "upsampling steps x4": ArchSpec("paper", 4, 8, (slots(("conv3x3", 8)), slots(("skip", 8))), (1, 2)),
    "bundled": load_config("trinas-xs-x4").spec,
}


SMALL_TILES = UpscaleOptions(tile_px=16)


def upscaler_of(spec):
    torch.manual_seed(0)
    return TiledUpscaler(Model(ModelConfig("test", spec, "Apache-2.0"), busy_network(spec)), "cpu", "fp32")


def photograph(height, width):
    return Image(torch.from_numpy(generated_photograph(height, width)).permute(2, 0, 1) / 255)


@pytest.fixture
def unchecked(monkeypatch):
    """For networks with random weights, whose results do not match their input."""
    monkeypatch.setattr("trinas.inference.tiled.describe_inconsistency", lambda high, baseline, low, compared_px: "")
    monkeypatch.setattr("trinas.inference.tiled.clamp_to_neighbourhood", lambda high, low: high.clamp_(0, 1))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", [(1, 40), (37, 53)])
def test_tiles_are_invisible_for_every_kind_of_network(name, size):
    image = Image(torch.rand(3, *size))
    upscaler = upscaler_of(SPECS[name])
    whole, tiled = upscaler(image).pixels, upscaler(image, SMALL_TILES).pixels
    assert whole.shape == (3, size[0] * SPECS[name].scale, size[1] * SPECS[name].scale)
    assert (whole - tiled).abs().max() < 1e-5


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (37, 53), (64, 31)])
def test_tiles_are_invisible(tiny_spec, channels, size):
    image = Image(torch.rand(channels, *size))
    if channels in (2, 4):  # some of it wholly transparent
        image.pixels[-1] = (image.pixels[-1] * 3 - 1).clamp(0, 1)
    upscaler = upscaler_of(tiny_spec)
    whole, tiled = upscaler(image).pixels, upscaler(image, SMALL_TILES).pixels
    assert whole.shape == (channels, size[0] * 2, size[1] * 2)
    assert (whole - tiled).abs().max() < 1e-5


@pytest.mark.usefixtures("unchecked")
def test_a_pixel_less_of_overlap_would_show(tiny_spec, monkeypatch):
    """So the overlap is the smallest that is exact."""
    image = Image(torch.rand(3, 40, 40))
    exact = upscaler_of(tiny_spec)(image, SMALL_TILES).pixels
    cost = compute_cost(tiny_spec)
    monkeypatch.setattr(tiled, "compute_cost", lambda spec: replace(cost, radius_px=cost.radius_px - 1))
    assert (upscaler_of(tiny_spec)(image, SMALL_TILES).pixels - exact).abs().max() > 1e-5


def test_tiles_cover_an_image_once():
    covered = np.zeros((70, 45), int)
    assert count_tiles(70, 45, 32) == len(list(tile_grid(70, 45, 32, 5)))
    for tile in tile_grid(70, 45, 32, 5):
        assert max(tile.bottom - tile.top, tile.right - tile.left) <= 32
        assert (tile.padded_top, tile.padded_right) == (max(0, tile.top - 5), min(45, tile.right + 5))
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert (covered == 1).all()


@pytest.mark.usefixtures("unchecked")
def test_progress_counts_tiles(tiny_spec):
    seen = []
    upscaler_of(tiny_spec)(Image(torch.rand(3, 32, 48)), SMALL_TILES, lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


@pytest.mark.usefixtures("unchecked")
def test_gray_is_the_mean_of_what_its_colours_become(tiny_spec):
    upscaler = upscaler_of(tiny_spec)
    gray = torch.rand(1, 9, 9)
    network_output = upscaler.run_network(gray.expand(3, -1, -1), "fp32").clamp(0, 1)
    torch.testing.assert_close(upscaler(Image(gray)).pixels, network_output.mean(dim=0, keepdim=True))


@pytest.mark.usefixtures("unchecked")
def test_opaque_stays_opaque_and_transparent_stays_transparent(tiny_spec):
    alpha = torch.ones(1, 24, 24)
    alpha[:, :, 12:] = 0
    upscaled = upscaler_of(tiny_spec)(Image(torch.cat([torch.rand(3, 24, 24), alpha]))).pixels[3]
    assert (upscaled[:, :22] == 1).all()
    assert (upscaled[:, 26:] == 0).all()


@pytest.mark.usefixtures("unchecked")
def test_hidden_colour_never_shines_through(tiny_spec):
    """Whatever colour lies under transparent pixels, visible ones come out the same."""
    side = 4 * compute_cost(tiny_spec).radius_px + 20
    colour, alpha = torch.rand(3, side, side), torch.ones(1, side, side)
    alpha[:, 5:-5, 5:-5] = 0
    results = []
    for hidden in (0.0, 1.0):
        painted = torch.where(alpha > 0, colour, hidden)
        results.append(upscaler_of(tiny_spec)(Image(torch.cat([painted, alpha]))).pixels)
    visible = results[0][3] > 0
    torch.testing.assert_close(results[0][:, visible], results[1][:, visible], rtol=0, atol=1e-6)
    assert (results[0] - results[1]).abs().max() > 0.5, "deep inside, hidden colour is left as it is"


def test_bleeding_carries_colour_just_as_far_as_asked():
    colour, alpha = torch.zeros(3, 1, 9), torch.zeros(1, 1, 9)
    colour[:, 0, 0], alpha[:, 0, 0] = 0.5, 1
    reached = bleed_colour(colour, alpha, 4)[0, 0] > 0.49
    assert reached.tolist() == [True] * 5 + [False] * 4


class BrokenInHalf(Network):
    """Goes wrong outside full precision, as half-precision formats can."""

    damage = staticmethod(lambda result: result * float("nan"))

    def forward(self, low):
        result = super().forward(low)
        return self.damage(result) if torch.is_autocast_enabled("cpu") else result


DAMAGES = {
    "numbers": lambda result: result * float("nan"),
    "infinite": lambda result: result.index_fill(3, torch.tensor([5]), float("inf")),
    "black": lambda result: result * 0,
    "dark": lambda result: result * 0.8,
    "colour": lambda result: result.flip(1),
    "noise": lambda result: torch.rand_like(result),
    "shuffled": lambda result: result.flip(2),
}
"""Ways of going wrong that users of other tools have met."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_tile_that_does_not_match_its_input_is_computed_again_in_fp32(tiny_spec, damage):
    network = BrokenInHalf(tiny_spec)
    network.damage = DAMAGES[damage]
    network.load_state_dict(faithful_network(tiny_spec).state_dict())
    model = Model(ModelConfig("broken", tiny_spec, "Apache-2.0"), network.eval())
    image = photograph(40, 56)
    sound = TiledUpscaler(model, "cpu", "fp32")(image).pixels
    # Clamping hides much of the damage, so look at the result without it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trinas.inference.tiled.clamp_to_neighbourhood", lambda high, low: high.clamp_(0, 1))
        sound_unbounded = TiledUpscaler(model, "cpu", "fp32")(image).pixels
        repaired = TiledUpscaler(model, "cpu", "bf16")(image).pixels
    torch.testing.assert_close(repaired, sound_unbounded)
    torch.testing.assert_close(sound, sound_unbounded, atol=0.02, rtol=0)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_result_that_does_not_match_its_input_is_never_returned(tiny_spec, damage, monkeypatch):
    monkeypatch.setattr("trinas.inference.tiled.clamp_to_neighbourhood", lambda high, low: high.clamp_(0, 1))
    network = faithful_network(tiny_spec)
    network.register_forward_hook(lambda module, inputs, output: DAMAGES[damage](output))
    model = Model(ModelConfig("broken", tiny_spec, "Apache-2.0"), network)
    with pytest.raises(UpscaleError, match="even in fp32; try another model"):
        TiledUpscaler(model, "cpu")(photograph(40, 56))


def test_a_network_that_restores_may_differ_more_from_its_input(tiny_spec):
    """A restoration model removes noise; another model that changes as much is broken."""
    noise = torch.empty(3, 80, 112).uniform_(-0.13, 0.13, generator=torch.Generator().manual_seed(0))
    network = faithful_network(tiny_spec)
    network.register_forward_hook(
        lambda module, inputs, output: output + torch.kron(noise, torch.ones(2, 2))[None, :, :80, :112]
    )
    image = photograph(40, 56)
    restores = TrainingRecord(config={"variants": 8})
    TiledUpscaler(Model(ModelConfig("m", tiny_spec, "MIT", restores), network), "cpu")(image)
    with pytest.raises(UpscaleError, match="when reduced again"):
        TiledUpscaler(Model(ModelConfig("m", tiny_spec, "MIT"), network), "cpu")(image)


@pytest.mark.parametrize("damage", DAMAGES)
def test_clamping_does_not_hide_a_failure(tiny_spec, damage):
    network = faithful_network(tiny_spec)
    network.register_forward_hook(lambda module, inputs, output: DAMAGES[damage](output))
    model = Model(ModelConfig("broken", tiny_spec, "Apache-2.0"), network)
    with pytest.raises(UpscaleError, match="even in fp32"):
        TiledUpscaler(model, "cpu")(photograph(40, 56))


PATTERNS = ("checkerboard", "lines", "noise")
"""Of single pixels: a network that removes noise and compression takes them for such."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in (*PATTERNS, "text", "one pixel", "black", "dark noise")
        for name in list_bundled_models()
        if kind not in PATTERNS or not load_config(name).restores
    ],
)
def test_unusual_images_are_not_taken_for_failures(kind, name):
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    drawn = {
        "noise": torch.rand(48, 64).round(),
        "checkerboard": (rows + columns) % 2,
        "lines": rows % 2,
        "text": (torch.rand(48, 64) > 0.9).float(),
        "one pixel": torch.ones(1, 1),
        "black": torch.zeros(48, 64),
        "dark noise": torch.rand(48, 64) * 0.02,
    }
    result = TiledUpscaler(load_model(name), "cpu")(Image(drawn[kind].expand(3, -1, -1)))
    assert result.pixels.isfinite().all()


@pytest.mark.parametrize("name", list_bundled_models())
def test_an_even_image_keeps_its_colour(name):
    upscaler = TiledUpscaler(load_model(name), "cpu")
    for colour in torch.cartesian_prod(*[torch.tensor([0.0, 0.3, 0.8, 1.0])] * 3):
        even = colour.view(3, 1, 1).expand(-1, 12, 17)
        upscaled = upscaler(Image(even)).pixels
        assert (upscaled - colour.view(3, 1, 1)).abs().max() < 0.5 / 255


def test_values_are_clamped_to_their_neighbourhood():
    low = torch.rand(3, 6, 7)
    high = torch.randn(3, 18, 21)
    bounded = clamp_to_neighbourhood(high.clone(), low)
    lowest, highest = (
        bound.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2) for bound in find_neighbourhood_range(low)
    )
    margin = highest - lowest + 0.4 / 255
    assert (bounded >= lowest - margin - 1e-6).all()
    assert (bounded <= highest + margin + 1e-6).all()
    inside = (high >= (lowest - margin).clamp(min=0)) & (high <= (highest + margin).clamp(max=1))
    torch.testing.assert_close(bounded[inside], high[inside])


def test_the_neighbourhood_range_is_that_of_pooling():
    low = torch.rand(2, 5, 1)
    for size in ((1, 1), (1, 6), (7, 1), (5, 8)):
        low = torch.rand(2, *size)
        lowest, highest = find_neighbourhood_range(low)
        torch.testing.assert_close(highest, torch.nn.functional.max_pool2d(low, 3, stride=1, padding=1))
        torch.testing.assert_close(lowest, -torch.nn.functional.max_pool2d(-low, 3, stride=1, padding=1))


@pytest.mark.parametrize("size", [(40, 60), (13, 20), (26, 40)])
def test_resizing_is_that_of_the_field(size):
    """But for rounding and clipping between the two directions, and what lies beyond the border."""
    levels = generated_photograph(26, 40)
    resized = resize(torch.from_numpy(levels).permute(2, 0, 1) / 255, *size)
    difference = to_levels(resized, 8)[4:-4, 4:-4].astype(int) - imresize(levels, *size)[4:-4, 4:-4]
    assert np.abs(difference).mean() < 0.3


def test_strength_blends_with_bicubic(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    image, upscaler = photograph(20, 30), TiledUpscaler(model, "cpu", "fp32")
    results = {strength: upscaler(image, UpscaleOptions(strength=strength)).pixels for strength in (0.0, 0.25, 1.0)}
    torch.testing.assert_close(results[0], resize(image.pixels, 40, 60))
    torch.testing.assert_close(results[0.25], torch.lerp(results[0.0], results[1.0], 0.25))
    assert (results[0.0] - results[1.0]).abs().max() > 0.01


def test_the_self_ensemble_is_the_mean_of_eight_views(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), faithful_network(tiny_spec))
    upscaler = TiledUpscaler(model, "cpu", "fp32")
    ensemble = partial(upscaler, options=UpscaleOptions(self_ensemble=True))
    image = photograph(12, 20)
    views = []
    for turns in range(4):
        for flip in ([], [1]):
            turned = image.pixels.rot90(turns, (1, 2)).flip(flip)
            views.append(upscaler.run_network(turned, "fp32").flip(flip).rot90(-turns, (1, 2)))
    expected = clamp_to_neighbourhood(torch.stack(views).mean(dim=0).detach(), image.pixels)
    torch.testing.assert_close(ensemble(image).pixels, expected)
    # So turning the image turns the result, which a network alone does not promise.
    turned = ensemble(replace(image, pixels=image.pixels.rot90(1, (1, 2)))).pixels
    torch.testing.assert_close(turned, ensemble(image).pixels.rot90(1, (1, 2)))


def test_a_device_that_is_not_there_is_one_clear_error(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), busy_network(tiny_spec))
    with pytest.raises(TrinasError, match="no device 'cuda:99' here"):
        TiledUpscaler(model, "cuda:99")


@pytest.mark.usefixtures("unchecked")
def test_8_bit_arrays_are_upscaled_as_images_are(tiny_spec):
    low = generated_photograph(9, 12)
    pixels = torch.from_numpy(low).permute(2, 0, 1).float() / 255
    upscaler = upscaler_of(tiny_spec)
    np.testing.assert_array_equal(upscaler.upscale_rgb8(low), to_levels(upscaler(Image(pixels)).pixels, 8))


@pytest.mark.parametrize("name", list_bundled_models())
def test_the_precision_that_is_picked_stays_within_one_level_of_fp32(name):
    image = generated_photograph(96, 128)
    results = {
        precision: TiledUpscaler(load_model(name), "cpu", precision).upscale_rgb8(image).astype(int)
        for precision in ("auto", "fp32", "bf16")
    }
    assert np.abs(results["auto"] - results["fp32"]).max() <= 1
    difference = np.abs(results["bf16"] - results["fp32"])
    assert 0 < difference.mean() < 0.1, "bf16 ran when asked for, and rounds little"


@pytest.mark.parametrize("name", list_bundled_models())
def test_bf16_costs_less_than_a_hundredth_of_a_decibel(data_dir, name):
    folder = data_dir / "benchmarks/Set5/HR"
    psnr = {}
    for precision in ("fp32", "bf16"):
        upscaler = TiledUpscaler(load_model(name), "cpu", precision)
        psnr[precision] = evaluate_model(upscaler.upscale_rgb8, folder, upscaler.scale).psnr
    assert psnr["bf16"] == pytest.approx(psnr["fp32"], abs=0.01)


@pytest.mark.usefixtures("unchecked")
def test_head_and_tail_run_in_fp32_whatever_the_trunk_does(tiny_spec):
    network = busy_network(tiny_spec)
    seen = {}
    for part in ("head", "trunk", "tail"):
        getattr(network, part).register_forward_hook(
            lambda module, inputs, output, part=part: seen.update({part: output.dtype})
        )
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), network)
    TiledUpscaler(model, "cpu", "bf16")(Image(torch.rand(3, 8, 8)))
    assert seen == {"head": torch.float32, "trunk": torch.bfloat16, "tail": torch.float32}


def test_an_upscaler_does_not_change_the_model(tiny_spec):
    network = busy_network(tiny_spec)
    layouts = [parameter.stride() for parameter in network.parameters()]
    TiledUpscaler(Model(ModelConfig("test", tiny_spec, "Apache-2.0"), network), "cpu")
    assert [parameter.stride() for parameter in network.parameters()] == layouts


def test_bf16_is_picked_for_wide_networks_where_the_hardware_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for native, width, expected in ((True, 32, "bf16"), (True, 16, "fp32"), (False, 64, "fp32")):
        monkeypatch.setattr("trinas.device.has_native_bf16", lambda device, native=native: native)
        assert pick_precision(cpu, width) == expected


@pytest.mark.parametrize(("amplified", "expected"), [(0.02, "bf16"), (5.0, "fp32")])
def test_bf16_is_picked_where_it_is_accurate_only(monkeypatch, amplified, expected):
    monkeypatch.setattr("trinas.device.has_native_bf16", lambda device: True)
    spec = ArchSpec("edge", 2, 32, (slots(("conv3x3", 32)),))
    network = busy_network(spec)
    for parameter in network.tail.parameters():
        parameter.data *= amplified
    model = Model(ModelConfig("test", spec, "Apache-2.0"), network)
    assert TiledUpscaler(model, "cpu").precision == expected
