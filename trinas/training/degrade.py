"""How low-resolution images are made from high-resolution ones."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

MAX_BLUR, MAX_NOISE = 0.35, 8.0
"""The strongest `degraded`: standard deviation of its blur over the scale, and of its noise in levels of 255."""

JPEG_QUALITIES, JPEG_SHARE = (30, 95), 0.9
"""Of `degraded`: the range of qualities, and the share of images that are compressed at all."""


def imresize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize as MATLAB's `imresize(image, [height width])` does for uint8, bit for bit.

    Bicubic kernel (a = -0.5), widened when reducing so that nothing aliases, borders mirrored, rounded to
    8 bits after each side, that with the smaller factor first. It is what the field makes its test images with.

    Args:
        image: (H, W) or (H, W, C), uint8.
        height, width: size of the result in pixels, at least 1.
    Returns:
        The resized image, uint8, with as many channels as `image`.
    Raises:
        ValueError: `image` is not uint8 or not an image, or a size is below 1.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing"; MATLAB's documentation.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"image must be uint8 (H, W) or (H, W, C), got {image.dtype} {image.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    if height / image.shape[0] <= width / image.shape[1]:
        return _resize_rows(_resize_rows(image, height).swapaxes(0, 1), width).swapaxes(0, 1)
    return _resize_rows(_resize_rows(image.swapaxes(0, 1), width).swapaxes(0, 1), height)


def downscale(high: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The low-resolution partner of `high` (H, W, C); sides must be multiples of `scale`."""
    height, width = high.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"sides {height} and {width} must be multiples of {scale}")
    return np.ascontiguousarray(imresize(high, height // scale, width // scale))


def degraded(high: NDArray[np.uint8], scale: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A low-resolution partner of `high` with the faults of real pictures: out of focus, noisy, compressed.

    Gaussian blur, `downscale`, Gaussian noise and JPEG compression follow each other as they do in a camera; each is
    drawn anew, weak ones as often as strong ones, and half of the images have no noise.

    Args:
        high: (H, W, 3); sides must be multiples of `scale`.
        scale: high pixels per low pixel, along each side.
        random: where the strengths and the noise come from.
    Returns:
        (H / scale, W / scale, 3).
    """
    blur = ImageFilter.GaussianBlur(random.uniform(0, MAX_BLUR) * scale)
    low = downscale(np.asarray(Image.fromarray(high).filter(blur)), scale)
    if random.random() < 0.5:
        noise = random.normal(0, random.uniform(0, MAX_NOISE), low.shape)
        low = (low + noise).round().clip(0, 255).astype(np.uint8)
    if random.random() < JPEG_SHARE:
        low = jpeg_compressed(low, int(random.integers(*JPEG_QUALITIES, endpoint=True)))
    return low


def jpeg_compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """`image` (H, W, 3) as it comes out of a JPEG file of a quality of 1 to 100, colours at half resolution."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as compressed:
        return np.array(compressed)


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """`image` (H, W, C) cropped at the bottom and right so that its sides are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def _resize_rows(image: NDArray[np.uint8], rows_out: int) -> NDArray[np.uint8]:
    if image.shape[0] == rows_out:
        return image
    indices, weights = _taps(image.shape[0], rows_out)
    total = np.zeros((rows_out, *image.shape[1:]))
    trailing = (1,) * (image.ndim - 1)
    for tap in range(indices.shape[1]):  # a dozen taps, each over the whole image: lean and fast enough
        total += weights[:, tap].reshape(-1, *trailing) * image[indices[:, tap]]
    # MATLAB rounds halves away from zero; the clip comes first, so that is upwards.
    return np.floor(total.clip(0, 255) + 0.5).astype(np.uint8)


def _taps(size_in: int, size_out: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """For each output position the input positions it reads, (size_out, taps), and their weights."""
    scale = size_out / size_in
    stretch = min(scale, 1.0)  # below 1 the kernel is widened, which is the antialiasing
    support = 4.0 / stretch
    centre = (np.arange(size_out) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    position = first[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = stretch * _cubic(stretch * (centre[:, None] - position))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(size_in), np.arange(size_in)[::-1]])
    indices = mirrored[position.astype(np.intp) % (2 * size_in)]
    used = np.any(weights != 0, axis=0)
    return indices[:, used], weights[:, used]


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d <= 2, far, 0.0))
