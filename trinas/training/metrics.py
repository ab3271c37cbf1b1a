"""PSNR and SSIM by the field's usual protocol: on Y, borders dropped, from 8-bit images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from trinas.errors import DataError
from trinas.images.formats import image_files
from trinas.images.read import read_rgb8
from trinas.training.degrade import crop_to_multiple, downscale, imresize

Pixels = NDArray[np.uint8]

_SSIM_STRIP_ROWS = 256  # of a large image at a time, since a window's sums take ten times its memory


@dataclass(frozen=True)
class ImageFigures:
    """How well one image was restored."""

    name: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Figures:
    """How well a folder of images was restored."""

    images: tuple[ImageFigures, ...]

    @property
    def psnr(self) -> float:
        """Mean over the images, in dB; infinite if one of them was restored exactly."""
        return fmean(image.psnr for image in self.images)

    @property
    def ssim(self) -> float:
        """Mean over the images."""
        return fmean(image.ssim for image in self.images)


def evaluate_model(upscale: Callable[[Pixels], Pixels], source: Path, scale: int) -> Figures:
    """Reduce each image of a folder, or one image, have it enlarged again, and compare.

    Args:
        upscale: uint8 (H, W, 3) to uint8 (scale * H, scale * W, 3).
        source: folder of high-resolution images, or one of them; sub-folders are not read.
        scale: output pixels per input pixel, along each side.
    Raises:
        DataError: the folder holds no image, or one too small to be measured.
        ImageError: an image cannot be read.
    """
    paths = [source] if source.is_file() else image_files(source)
    if not paths:
        raise DataError(f"{source}: no images here to measure on")
    images = []
    for path in paths:
        high = crop_to_multiple(read_rgb8(path), scale)
        if min(high.shape[:2]) < 11 + 2 * scale:
            raise DataError(f"{path}: too small to measure; at least {11 + 2 * scale} pixels a side are needed")
        output = upscale(downscale(high, scale))
        images.append(ImageFigures(path.name, psnr_y(output, high, scale), ssim_y(output, high, scale)))
    return Figures(tuple(images))


def upscale_bicubic(low: Pixels, scale: int) -> Pixels:
    """MATLAB's bicubic enlargement of (H, W, 3), the field's baseline."""
    return imresize(low, low.shape[0] * scale, low.shape[1] * scale)


def luma(image: Pixels) -> NDArray[np.float64]:
    """Y of ITU-R BT.601, about 16 to 235, (H, W) from uint8 (H, W, 3)."""
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def psnr_y(image: Pixels, reference: Pixels, border: int) -> float:
    """Peak signal-to-noise ratio on Y, in dB.

    Args:
        image, reference: uint8 (H, W, 3) of one size.
        border: pixels dropped on each side; the protocol drops `scale`.
    Returns:
        dB, infinite for equal images.
    Raises:
        ValueError: the sizes differ, or nothing is left inside the border.
    """
    first, second = _cropped_luma(image, reference, border)
    error = np.mean((first - second) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim_y(image: Pixels, reference: Pixels, border: int) -> float:
    """Structural similarity on Y: 11x11 Gaussian window of sigma 1.5, valid region, peak 255.

    Arguments and errors as for `psnr_y`; what is left must be at least 11 pixels a side.

    Source: Wang et al., IEEE TIP 2004.
    """
    first, second = (torch.from_numpy(y) for y in _cropped_luma(image, reference, border))
    if min(first.shape) < 11:
        raise ValueError(f"SSIM needs 11 pixels a side inside the border, got {tuple(first.shape)}")
    rows = first.shape[0] - 10  # of windows
    strips = [slice(top, min(top + _SSIM_STRIP_ROWS, rows) + 10) for top in range(0, rows, _SSIM_STRIP_ROWS)]
    return sum(float(_similarity(first[strip], second[strip]).sum()) for strip in strips) / (
        rows * (first.shape[1] - 10)
    )


def _similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """SSIM of each window of two (H, W) planes."""
    mean = _windowed(torch.stack([first, second, first * first, second * second, first * second]))
    mean_1, mean_2, square_1, square_2, product = mean
    variance_1, variance_2 = square_1 - mean_1**2, square_2 - mean_2**2
    covariance = product - mean_1 * mean_2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return similarity / ((mean_1**2 + mean_2**2 + c1) * (variance_1 + variance_2 + c2))


def _windowed(planes: torch.Tensor) -> Sequence[torch.Tensor]:
    """Gaussian means of (P, H, W), valid region."""
    distance = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(distance**2) / (2 * 1.5**2))
    window = window / window.sum()
    rows = F.conv2d(planes[:, None], window[None, None, :, None])
    return F.conv2d(rows, window[None, None, None, :])[:, 0].unbind()


def _cropped_luma(image: Pixels, reference: Pixels, border: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if image.shape != reference.shape:
        raise ValueError(f"images differ in size: {image.shape} and {reference.shape}")
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        raise ValueError(f"nothing is left of {width}x{height} inside a border of {border}")
    inside = np.s_[border : height - border, border : width - border]
    return luma(image[inside]), luma(reference[inside])
