"""PSNR and SSIM by the field's protocol: on Y, from 8-bit images, without their borders."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from trinas.config import MAX_INPUT_PX
from trinas.errors import DataError
from trinas.images.formats import list_image_files
from trinas.images.read import OpenImage, open_image
from trinas.networks.network import Frame
from trinas.training.degrade import crop_to_multiple, downscale, imresize

Pixels = NDArray[np.uint8]

EXACT_PSNR = 100.0
"""PSNR in dB of an exactly restored image in validation. It is finite, so that the other images still count."""

SSIM_WINDOW_PX, SSIM_SIGMA_PX = 11, 1.5
"""Side and standard deviation of SSIM's Gaussian window."""

_SSIM_STRIP_ROWS = 256  # rows of a large image at a time, since the sums of all windows take ten times its memory


@dataclass(frozen=True)
class ImageMetrics:
    """How well one image was restored."""

    name: str
    psnr: float
    """On Y, in dB."""
    ssim: float
    """On Y, at most 1."""


@dataclass(frozen=True)
class FolderMetrics:
    """How well a folder of images was restored."""

    images: tuple[ImageMetrics, ...]

    @property
    def psnr(self) -> float:
        """Mean over the images, in dB; infinite if one of them was restored exactly."""
        return fmean(image.psnr for image in self.images)

    @property
    def ssim(self) -> float:
        """Mean over the images."""
        return fmean(image.ssim for image in self.images)


def evaluate_model(
    upscale: Callable[[Pixels], Pixels], source: Path, scale: int, opener: OpenImage = open_image
) -> FolderMetrics:
    """Reduce each image of a folder, or one image, upscale it again, and measure the result against the image.

    Args:
        upscale: maps uint8 (H, W, 3) to uint8 (scale * H, scale * W, 3).
        source: folder of high-resolution images, or one image. Sub-folders are not read.
        scale: output pixels per input pixel, along each side.
        opener: opens the images.
    Raises:
        DataError: the folder holds no image, or an image is too small to be measured.
        ImageError: an image cannot be read.
    """
    paths = [source] if source.is_file() else list_image_files(source)
    if not paths:
        raise DataError(f"{source}: no images here to measure on")
    images = []
    for path in paths:
        high = crop_to_multiple(opener(path, MAX_INPUT_PX).read_rgb8(), scale)
        if min(high.shape[:2]) < SSIM_WINDOW_PX + 2 * scale:
            smallest = SSIM_WINDOW_PX + 2 * scale
            raise DataError(f"{path}: too small to measure; at least {smallest} pixels a side are needed")
        output = upscale(downscale(high, scale))
        images.append(ImageMetrics(path.name, psnr_y(output, high, scale), ssim_y(output, high, scale)))
    return FolderMetrics(tuple(images))


@torch.inference_mode()
def measure_validation_psnr(network: Frame, pairs: Sequence[tuple[Pixels, Pixels]], *choices: object) -> float:
    """Return the mean PSNR on Y in dB over whole images, in fp32, by the field's protocol.

    Args:
        network: on any device.
        pairs: low and high, uint8 (H, W, 3) each.
        choices: further arguments of the network's `forward`.
    """
    device = next(network.parameters()).device
    total = 0.0
    for low, high in pairs:
        output = network(torch.from_numpy(low).to(device).permute(2, 0, 1)[None].float() / 255, *choices)
        levels = (output[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        total += min(psnr_y(levels, high, network.scale), EXACT_PSNR)
    return total / len(pairs)


def upscale_bicubic(low: Pixels, scale: int) -> Pixels:
    """Upscale (H, W, 3) by MATLAB's bicubic interpolation, the field's baseline."""
    return imresize(low, low.shape[0] * scale, low.shape[1] * scale)


def luma(image: Pixels) -> NDArray[np.float64]:
    """Return Y of ITU-R BT.601, about 16 to 235, (H, W) from uint8 (H, W, 3)."""
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def psnr_y(image: Pixels, reference: Pixels, border: int) -> float:
    """Return the peak signal-to-noise ratio on Y.

    Args:
        image, reference: uint8 (H, W, 3) of the same size.
        border: pixels dropped on each side; the protocol drops `scale`.
    Returns:
        The PSNR in dB, infinite for equal images.
    Raises:
        ValueError: the sizes differ, or no pixel is left inside the border.
    """
    first, second = _crop_luma(image, reference, border)
    error = np.mean((first - second) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def ssim_y(image: Pixels, reference: Pixels, border: int) -> float:
    """Return the structural similarity on Y, with an 11x11 Gaussian window of sigma 1.5, the valid region and peak 255.

    Args:
        image, reference, border: as for `psnr_y`.
    Returns:
        The mean SSIM of all windows, at most 1.
    Raises:
        ValueError: the sizes differ, or a side has fewer than 11 pixels inside the border.

    Source: Wang et al., IEEE TIP 2004.
    """
    first, second = (torch.from_numpy(y) for y in _crop_luma(image, reference, border))
    if min(first.shape) < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM needs {SSIM_WINDOW_PX} pixels a side inside the border, got {tuple(first.shape)}")
    overlap = SSIM_WINDOW_PX - 1
    rows, columns = (side - overlap for side in first.shape)  # of windows
    strips = [slice(top, min(top + _SSIM_STRIP_ROWS, rows) + overlap) for top in range(0, rows, _SSIM_STRIP_ROWS)]
    return sum(float(_compare_windows(first[strip], second[strip]).sum()) for strip in strips) / (rows * columns)


def _compare_windows(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return SSIM of each window of two (H, W) planes."""
    mean = _average_windows(torch.stack([first, second, first * first, second * second, first * second]))
    mean_1, mean_2, square_1, square_2, product = mean
    variance_1, variance_2 = square_1 - mean_1**2, square_2 - mean_2**2
    covariance = product - mean_1 * mean_2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return similarity / ((mean_1**2 + mean_2**2 + c1) * (variance_1 + variance_2 + c2))


def _average_windows(planes: torch.Tensor) -> Sequence[torch.Tensor]:
    """Return the Gaussian means of (P, H, W) in each window of the valid region."""
    distance = torch.arange(SSIM_WINDOW_PX, dtype=torch.float64) - SSIM_WINDOW_PX // 2
    window = torch.exp(-(distance**2) / (2 * SSIM_SIGMA_PX**2))
    window = window / window.sum()
    rows = F.conv2d(planes[:, None], window[None, None, :, None])
    return F.conv2d(rows, window[None, None, None, :])[:, 0].unbind()


def _crop_luma(image: Pixels, reference: Pixels, border: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Y of both images inside the border."""
    if image.shape != reference.shape:
        raise ValueError(f"images differ in size: {image.shape} and {reference.shape}")
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border:
        raise ValueError(f"no pixel of {width}x{height} is left inside a border of {border}")
    inside = np.s_[border : height - border, border : width - border]
    return luma(image[inside]), luma(reference[inside])
