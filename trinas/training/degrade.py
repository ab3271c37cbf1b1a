"""Make low-resolution images from high-resolution ones.

OpenCV blurs, adds noise and compresses. It is faster than NumPy and Pillow (docs/LOG.md). Its results do not depend on
its number of threads, which is not changed here.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_BLUR, MAX_NOISE = 0.35, 8.0
"""The strongest degradation: standard deviation of the blur over the scale, and of the noise in levels of 255."""

JPEG_QUALITIES, JPEG_SHARE = (30, 95), 0.9
"""The range of JPEG qualities, and the share of images that are compressed at all."""

DEGRADATION_VERSION = 1
"""Increased whenever `degrade_image` gives other pixels. A run is not resumed with another version."""


def imresize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize as MATLAB's `imresize(image, [height width])` does for uint8, bit for bit.

    The kernel is bicubic (a = -0.5). It is widened for reducing, which prevents aliasing. Borders are mirrored. The
    side with the smaller factor comes first, and each result is rounded to 8 bits. The field makes its test images in
    this way.

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
    """Reduce `high` (H, W, C) to its low-resolution partner by `imresize`.

    Raises:
        ValueError: the sides are not multiples of `scale`.
    """
    height, width = high.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"sides {height} and {width} must be multiples of {scale}")
    return np.ascontiguousarray(imresize(high, height // scale, width // scale))


def degrade_image(high: NDArray[np.uint8], scale: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Make a low-resolution partner of `high` with the faults of real images: out of focus, noisy, compressed.

    Gaussian blur, `downscale`, Gaussian noise and JPEG compression follow each other as in a camera. Their strengths
    are drawn at random, from 0 up. Half of the images get no noise.

    Args:
        high: (H, W, 3); sides must be multiples of `scale`.
        scale: high pixels per low pixel, along each side.
        random: source of the strengths and of the noise.
    Returns:
        uint8 (H / scale, W / scale, 3).
    """
    sigma = random.uniform(0, MAX_BLUR) * scale
    blurred = cv2.GaussianBlur(high, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    low = downscale(np.asarray(blurred, np.uint8), scale)
    if random.random() < 0.5:
        noise = random.normal(0, random.uniform(0, MAX_NOISE), low.shape)
        low = np.asarray(cv2.add(low, noise, dtype=cv2.CV_8U), np.uint8)
    if random.random() < JPEG_SHARE:
        low = compress_jpeg(low, int(random.integers(*JPEG_QUALITIES, endpoint=True)))
    return low


def compress_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) as it is after JPEG compression, with colours at half resolution.

    Args:
        image: uint8 (H, W, 3).
        quality: 1 to 100.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    _, file = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    decoded = cv2.imdecode(file, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads what it wrote"
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def crop_to_multiple(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Crop `image` (H, W, C) at the bottom and right so that its sides are multiples of `scale`."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def _resize_rows(image: NDArray[np.uint8], rows_out: int) -> NDArray[np.uint8]:
    if image.shape[0] == rows_out:
        return image
    indices, weights = _compute_taps(image.shape[0], rows_out)
    total = np.zeros((rows_out, *image.shape[1:]))
    trailing = (1,) * (image.ndim - 1)
    for tap in range(indices.shape[1]):  # one tap of the whole image at a time, to save memory
        total += weights[:, tap].reshape(-1, *trailing) * image[indices[:, tap]]
    # MATLAB rounds halves away from zero. After the clip, this means upwards.
    return np.floor(total.clip(0, 255) + 0.5).astype(np.uint8)


def _compute_taps(size_in: int, size_out: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the input positions that each output position reads, (size_out, taps), and their weights."""
    scale = size_out / size_in
    stretch = min(scale, 1.0)  # below 1 the kernel is widened, against aliasing
    support = 4.0 / stretch
    centre = (np.arange(size_out) + 0.5) / scale - 0.5
    first = np.floor(centre - support / 2)
    position = first[:, None] + np.arange(int(np.ceil(support)) + 2)
    weights = stretch * _evaluate_cubic(stretch * (centre[:, None] - position))
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = np.concatenate([np.arange(size_in), np.arange(size_in)[::-1]])
    indices = mirrored[position.astype(np.intp) % (2 * size_in)]
    used = np.any(weights != 0, axis=0)
    return indices[:, used], weights[:, used]


def _evaluate_cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    d = np.abs(distance)
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    return np.where(d <= 1, near, np.where(d <= 2, far, 0.0))
