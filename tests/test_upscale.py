import time

import numpy as np
import pytest
import torch
from conftest import busy_network, generated_photograph

from trinas.config import UpscaleConfig
from trinas.cost import spec_cost
from trinas.device import pick_precision
from trinas.errors import TrinasError, UpscaleError
from trinas.evaluate import evaluate_model
from trinas.images import Image, to_levels
from trinas.network import Network
from trinas.space import ArchSpec, CellSpec, SlotSpec
from trinas.store import Model, ModelConfig, bundled_models, load_config, load_model
from trinas.upscale import Upscaler, bleed, tile_grid


def slots(*pairs):
    return CellSpec(tuple(SlotSpec(primitive, width) for primitive, width in pairs))


SPECS = {
    "edge x3": ArchSpec("edge", 3, 8, (slots(("mixer7", 12), ("gated", 8)), slots(("skip", 4), ("conv3x3", 8)))),
    "pixel shuffle x4": ArchSpec("paper", 4, 8, (slots(("dws", 12), ("residual", 8)),), plain_convs=1),
    "upsampling steps x4": ArchSpec("paper", 4, 8, (slots(("conv3x3", 8)), slots(("skip", 8))), (1, 2)),
    "bundled": load_config("trinas-xs-x4").spec,
}


def upscaler_of(spec, tile_px=UpscaleConfig.tile_px, precision="fp32"):
    torch.manual_seed(0)
    model = Model(ModelConfig("test", spec, "Apache-2.0"), busy_network(spec))
    return Upscaler(model, UpscaleConfig(tile_px, "cpu", precision))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", [(1, 40), (37, 53)])
def test_tiles_are_invisible_for_every_kind_of_network(name, size):
    image = Image(torch.rand(3, *size))
    whole = upscaler_of(SPECS[name])(image).pixels
    tiled = upscaler_of(SPECS[name], tile_px=16)(image).pixels
    assert whole.shape == (3, size[0] * SPECS[name].scale, size[1] * SPECS[name].scale)
    assert (whole - tiled).abs().max() < 1e-5


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (37, 53), (64, 31)])
def test_tiles_are_invisible(tiny_spec, channels, size):
    image = Image(torch.rand(channels, *size))
    if channels in (2, 4):  # some of it wholly transparent
        image.pixels[-1] = (image.pixels[-1] * 3 - 1).clamp(0, 1)
    whole = upscaler_of(tiny_spec)(image).pixels
    tiled = upscaler_of(tiny_spec, tile_px=16)(image).pixels
    assert whole.shape == (channels, size[0] * 2, size[1] * 2)
    assert (whole - tiled).abs().max() < 1e-5


def test_a_pixel_less_of_overlap_would_show(tiny_spec):
    """So the overlap is the smallest that is exact."""
    upscaler = upscaler_of(tiny_spec, tile_px=16)
    image = Image(torch.rand(3, 40, 40))
    exact = upscaler(image).pixels
    upscaler._radius_px = spec_cost(tiny_spec).radius_px - 1
    assert (upscaler(image).pixels - exact).abs().max() > 1e-5


def test_tiles_cover_a_picture_once():
    covered = np.zeros((70, 45), int)
    for tile in tile_grid(70, 45, 32, 5):
        assert max(tile.bottom - tile.top, tile.right - tile.left) <= 32
        assert (tile.padded_top, tile.padded_right) == (max(0, tile.top - 5), min(45, tile.right + 5))
        covered[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert (covered == 1).all()


def test_progress_counts_tiles(tiny_spec):
    seen = []
    upscaler_of(tiny_spec, tile_px=16)(Image(torch.rand(3, 32, 48)), lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_gray_is_the_mean_of_what_its_colours_become(tiny_spec):
    upscaler = upscaler_of(tiny_spec)
    gray = torch.rand(1, 9, 9)
    network_output = upscaler._network(gray.expand(1, 3, -1, -1))[0].clamp(0, 1)
    torch.testing.assert_close(upscaler(Image(gray)).pixels, network_output.mean(dim=0, keepdim=True))


def test_opaque_stays_opaque_and_transparent_stays_transparent(tiny_spec):
    alpha = torch.ones(1, 24, 24)
    alpha[:, :, 12:] = 0
    enlarged = upscaler_of(tiny_spec)(Image(torch.cat([torch.rand(3, 24, 24), alpha]))).pixels[3]
    assert (enlarged[:, :22] == 1).all()
    assert (enlarged[:, 26:] == 0).all()


def test_hidden_colour_never_shines_through(tiny_spec):
    """Whatever colour lies under transparent pixels, visible ones come out the same."""
    side = 4 * spec_cost(tiny_spec).radius_px + 20
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
    reached = bleed(colour, alpha, 4)[0, 0] > 0.49
    assert reached.tolist() == [True] * 5 + [False] * 4


class BrokenInHalf(Network):
    """Overflows outside full precision, as half-precision formats can."""

    def forward(self, low):
        result = super().forward(low)
        return result * float("nan") if torch.is_autocast_enabled("cpu") else result


def test_a_tile_that_is_not_numbers_is_computed_again_in_fp32(tiny_spec):
    network = BrokenInHalf(tiny_spec)
    network.load_state_dict(busy_network(tiny_spec).state_dict())
    model = Model(ModelConfig("broken", tiny_spec, "Apache-2.0"), network.eval())
    image = Image(torch.rand(3, 20, 20))
    repaired = Upscaler(model, UpscaleConfig(device="cpu", precision="bf16"))(image).pixels
    sound = Upscaler(model, UpscaleConfig(device="cpu", precision="fp32"))(image).pixels
    torch.testing.assert_close(repaired, sound)


def test_values_that_are_not_numbers_are_never_returned(tiny_spec):
    network = busy_network(tiny_spec)
    network.tail.bias.data[0] = float("inf")
    model = Model(ModelConfig("broken", tiny_spec, "Apache-2.0"), network)
    with pytest.raises(UpscaleError, match="even in fp32"):
        Upscaler(model, UpscaleConfig(device="cpu"))(Image(torch.rand(3, 4, 4)))


def test_a_device_that_is_not_there_is_one_clear_error(tiny_spec):
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), busy_network(tiny_spec))
    with pytest.raises(TrinasError, match="no device 'cuda:99' here"):
        Upscaler(model, UpscaleConfig(device="cuda:99"))


def test_8_bit_arrays_are_enlarged_as_pictures_are(tiny_spec):
    low = generated_photograph(9, 12)
    pixels = torch.from_numpy(low).permute(2, 0, 1).float() / 255
    upscaler = upscaler_of(tiny_spec)
    np.testing.assert_array_equal(upscaler.rgb8(low), to_levels(upscaler(Image(pixels)).pixels, 8))


@pytest.mark.parametrize("name", bundled_models())
def test_the_precision_that_is_picked_stays_within_one_level_of_fp32(name):
    image = generated_photograph(96, 128)
    results = {
        precision: Upscaler(load_model(name), UpscaleConfig(device="cpu", precision=precision)).rgb8(image).astype(int)
        for precision in ("auto", "fp32", "bf16")
    }
    assert np.abs(results["auto"] - results["fp32"]).max() <= 1
    difference = np.abs(results["bf16"] - results["fp32"])
    assert 0 < difference.mean() < 0.1, "bf16 ran when asked for, and rounds little"


@pytest.mark.parametrize("name", bundled_models())
def test_bf16_costs_less_than_a_hundredth_of_a_decibel(data_dir, name):
    folder = data_dir / "benchmarks/Set5/HR"
    psnr = {}
    for precision in ("fp32", "bf16"):
        upscaler = Upscaler(load_model(name), UpscaleConfig(device="cpu", precision=precision))
        psnr[precision] = evaluate_model(upscaler.rgb8, folder, upscaler.scale).psnr
    assert psnr["bf16"] == pytest.approx(psnr["fp32"], abs=0.01)


def test_head_and_tail_run_in_fp32_whatever_the_trunk_does(tiny_spec):
    network = busy_network(tiny_spec)
    seen = {}
    for part in ("head", "trunk", "tail"):
        getattr(network, part).register_forward_hook(
            lambda module, inputs, output, part=part: seen.update({part: output.dtype})
        )
    model = Model(ModelConfig("test", tiny_spec, "Apache-2.0"), network)
    Upscaler(model, UpscaleConfig(device="cpu", precision="bf16"))(Image(torch.rand(3, 8, 8)))
    assert seen == {"head": torch.float32, "trunk": torch.bfloat16, "tail": torch.float32}


def test_an_upscaler_leaves_the_model_to_its_owner(tiny_spec):
    network = busy_network(tiny_spec)
    layouts = [parameter.stride() for parameter in network.parameters()]
    Upscaler(Model(ModelConfig("test", tiny_spec, "Apache-2.0"), network), UpscaleConfig(device="cpu"))
    assert [parameter.stride() for parameter in network.parameters()] == layouts


def test_bf16_is_picked_where_it_is_faster_and_accurate_only():
    """With made-up work, since real times differ from machine to machine."""

    def work(slow_precision, error):
        def run(precision):
            time.sleep(0.02 if precision == slow_precision else 0.002)
            return torch.zeros(3) + (error if precision == "bf16" else 0)

        return run

    cpu = torch.device("cpu")
    assert pick_precision(cpu, work("fp32", error=0.003), tolerance=1 / 255) == "bf16"
    assert pick_precision(cpu, work("fp32", error=0.005), tolerance=1 / 255) == "fp32"
    assert pick_precision(cpu, work("bf16", error=0.0)) == "fp32"
    assert pick_precision(cpu, work("neither", error=0.0)) == "fp32", "no gain, no rounding"
