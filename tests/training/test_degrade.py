import hashlib
import io

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.images.formats import list_image_files
from trinas.images.read import read_rgb8
from trinas.training.degrade import compress_jpeg, crop_to_multiple, degrade_image, downscale, imresize


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reference_images_come_out_bit_for_bit(data_dir, scale):
    """MATLAB's own results, for whole test images."""
    paths = list_image_files(data_dir / "benchmarks/Set5/HR")
    assert len(paths) == 5
    for path in paths:
        reference = read_rgb8(data_dir / f"benchmarks/Set5/LR_x{scale}" / path.name)
        np.testing.assert_array_equal(downscale(crop_to_multiple(read_rgb8(path), scale), scale), reference)


def test_a_generated_image_is_reduced_to_the_same_bytes_everywhere():
    """Pins the arithmetic where the reference images are absent."""
    image = generated_photograph(60, 84)
    results = [imresize(image, 15, 21), imresize(image, 20, 28), imresize(image, 97, 201)]
    digest = hashlib.sha256(b"".join(result.tobytes() for result in results)).hexdigest()
    assert digest == "11931302ae003a6eedb290cfcb7f580e76d0af9f896adf7627891eb7ecbee7bb"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 40), (33, 3)])
def test_a_flat_image_stays_flat(size):
    image = np.full((17, 13, 3), 77, np.uint8)
    assert (imresize(image, *size) == 77).all()


def test_an_image_is_resized_channel_by_channel():
    image = generated_photograph(24, 36)
    gray = np.stack([imresize(image[:, :, channel], 8, 12) for channel in range(3)], axis=2)
    np.testing.assert_array_equal(imresize(image, 8, 12), gray)


def test_the_same_size_changes_nothing():
    image = generated_photograph(20, 30)
    np.testing.assert_array_equal(imresize(image, 20, 30), image)


def test_mirroring_commutes_with_resizing():
    image = generated_photograph(24, 36)
    np.testing.assert_array_equal(imresize(image[::-1, ::-1], 8, 12), imresize(image, 8, 12)[::-1, ::-1])


@pytest.mark.parametrize(("height", "width"), [(20, 9), (7, 30), (40, 20)])
def test_which_side_comes_first_depends_on_the_factors_not_on_which_it_is(height, width):
    image = generated_photograph(24, 36)
    turned = imresize(image.swapaxes(0, 1), width, height).swapaxes(0, 1)
    np.testing.assert_array_equal(imresize(image, height, width), turned)


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3), np.float32), np.zeros(4, np.uint8)])
def test_other_than_uint8_images_are_refused(bad):
    with pytest.raises(ValueError, match="must be uint8"):
        imresize(bad, 2, 2)


def test_sides_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 4"):
        downscale(generated_photograph(10, 8), 4)


def test_degraded_input_is_another_one_each_time_and_a_function_of_its_generator():
    high = generated_photograph(96, 80)
    clean = downscale(high, 4)
    lows = [degrade_image(high, 4, np.random.default_rng(seed)) for seed in range(40)]
    assert all(low.shape == clean.shape and low.dtype == np.uint8 for low in lows)
    assert len({low.tobytes() for low in lows}) == 40
    np.testing.assert_array_equal(lows[7], degrade_image(high, 4, np.random.default_rng(7)))
    errors = sorted(float(np.square(low - clean.astype(float)).mean() ** 0.5) for low in lows)
    assert errors[0] < errors[-1] / 3, "weak faults and strong ones"
    assert errors[-1] < 40, "still the same picture"


@pytest.mark.parametrize("quality", [30, 80, 95])
def test_compression_is_that_of_pillow(quality):
    """Both use libjpeg-turbo: the colours keep their order, and are at half resolution."""
    image, file = generated_photograph(33, 50), io.BytesIO()
    PillowImage.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with PillowImage.open(file) as compressed:
        difference = np.asarray(compressed).astype(int) - compress_jpeg(image, quality)
    assert np.abs(difference).max() <= 1


def test_degrading_leaves_opencv_s_threads_alone():
    before = cv2.getNumThreads()
    degrade_image(generated_photograph(32, 32), 2, np.random.default_rng(0))
    assert cv2.getNumThreads() == before


def test_compression_hurts_more_at_a_lower_quality():
    image = generated_photograph(64, 96)
    errors = [np.abs(compress_jpeg(image, quality) - image.astype(float)).mean() for quality in (95, 60, 20)]
    assert errors == sorted(errors)
    assert errors[0] < errors[2] / 1.5
    assert compress_jpeg(image, 60).shape == image.shape
