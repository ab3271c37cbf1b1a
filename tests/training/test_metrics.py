import numpy as np
import pytest
from PIL import Image as PillowImage
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from support.images import generated_photograph
from trinas.errors import DataError
from trinas.training.metrics import evaluate_model, luma, psnr_y, ssim_y, upscale_bicubic


@pytest.fixture
def pair():
    image = generated_photograph(60, 80)
    noise = np.random.default_rng(1).integers(-20, 21, image.shape)
    return image, np.clip(image + noise, 0, 255).astype(np.uint8)


def test_luma_agrees_with_scikit_image(pair):
    np.testing.assert_allclose(luma(pair[0]), rgb2ycbcr(pair[0])[:, :, 0], atol=1e-9)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_psnr_and_ssim_agree_with_scikit_image(pair, border):
    first, second = (luma(image)[border : 60 - border, border : 80 - border] for image in pair)
    assert psnr_y(*pair, border) == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255), abs=1e-9)
    _, similarity = structural_similarity(
        first,
        second,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert ssim_y(*pair, border) == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-9)


def test_psnr_of_a_known_pair():
    black, gray = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert psnr_y(black, gray, 1) == pytest.approx(20 * np.log10(255 / 219))
    assert psnr_y(gray, gray, 1) == float("inf")
    assert ssim_y(*[generated_photograph(20, 20)] * 2, 1) == pytest.approx(1)


def test_images_that_cannot_be_compared_are_refused(pair):
    with pytest.raises(ValueError, match="differ in size"):
        psnr_y(pair[0], pair[1][:-1], 2)
    with pytest.raises(ValueError, match="is left inside"):
        psnr_y(*pair, 30)
    with pytest.raises(ValueError, match="11 pixels a side"):
        ssim_y(*pair, 25)


@pytest.mark.parametrize(("scale", "decibels"), [(2, 33.66), (3, 30.39), (4, 28.42)])
def test_bicubic_has_its_known_psnr(data_dir, scale, decibels):
    """Metrics are comparable with those of the field."""
    metrics = evaluate_model(lambda low: upscale_bicubic(low, scale), data_dir / "benchmarks/Set5/HR", scale)
    assert metrics.psnr == pytest.approx(decibels, abs=0.03)
    assert len(metrics.images) == 5


def test_the_mean_is_over_images(tmp_path):
    for seed, size in enumerate([(41, 33), (64, 50)]):
        PillowImage.fromarray(generated_photograph(*size, seed)).save(tmp_path / f"{seed}.png")
    metrics = evaluate_model(lambda low: upscale_bicubic(low, 2), tmp_path, 2)
    assert [image.name for image in metrics.images] == ["0.png", "1.png"]
    assert metrics.psnr == pytest.approx((metrics.images[0].psnr + metrics.images[1].psnr) / 2)
    assert metrics.ssim == pytest.approx((metrics.images[0].ssim + metrics.images[1].ssim) / 2)


def test_folders_that_cannot_be_measured_are_refused(tmp_path):
    with pytest.raises(DataError, match="no images here"):
        evaluate_model(lambda low: low, tmp_path, 2)
    PillowImage.new("RGB", (14, 40)).save(tmp_path / "thin.png")
    with pytest.raises(DataError, match=r"thin\.png: too small"):
        evaluate_model(lambda low: low, tmp_path, 2)
