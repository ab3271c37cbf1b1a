"""Training images: decoded once and cut into patches. A batch is a function of (seed, step)."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trinas.config import MAX_INPUT_PX
from trinas.errors import DataError, ImageError
from trinas.images.formats import IMAGE_SUFFIXES, is_image_file
from trinas.images.read import OpenImage, open_image
from trinas.training.degrade import crop_to_multiple, degrade_image, downscale
from trinas.training.state import STATE_FILE
from trinas.training.synthetic import draw_dead_leaves

VALIDATION_IMAGES = 24
"""Images held out of training, where there are at least ten times as many."""

GENERATED_IMAGES, GENERATED_SIDE_PX = 100, 256
"""How many images are generated if no images are given, and the length of their sides."""

GENERATED_FOLDER = "(generated)"
"""Stands for the folder of generated images in records."""


@dataclass(frozen=True)
class TrainingImage:
    """A decoded training image."""

    path: Path
    pixels: NDArray[np.uint8]
    """(H, W, 3)."""
    digest: str
    """SHA-256 of size and pixels."""


def load_photographs(folders: Sequence[Path], opener: OpenImage = open_image) -> list[TrainingImage]:
    """Decode every image of `folders` and of their sub-folders, except run folders. Equal images are taken once.

    Args:
        folders: of the images.
        opener: opens the images.
    Returns:
        The images in the order of their digests, so that names and folders do not matter.
    Raises:
        DataError: a folder is missing or holds no image, or an image cannot be read.
    """
    by_digest: dict[str, TrainingImage] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        # A run folder holds drawings, such as curve.png, which are not training images.
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if is_image_file(path) and not path.with_name(STATE_FILE).is_file()
        ]
        if not paths:
            raise DataError(f"{folder}: no images here to learn from (looked for {' '.join(IMAGE_SUFFIXES)})")
        for path in paths:
            try:
                image = _identify(path, opener(path, MAX_INPUT_PX).read_rgb8())
            except ImageError as error:
                raise DataError(f"{error}; remove it from the training images") from None
            by_digest[image.digest] = image
    return _sort_by_digest(by_digest.values())


def _identify(path: Path, pixels: NDArray[np.uint8]) -> TrainingImage:
    return TrainingImage(path, pixels, compute_digest(pixels))


def compute_digest(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of size and pixels of an image, (H, W, 3)."""
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _sort_by_digest(images: Iterable[TrainingImage]) -> list[TrainingImage]:
    return sorted(images, key=lambda image: image.digest)


def generate_default_images() -> list[TrainingImage]:
    """Generate the images that are used if no images are given."""
    return generate_images(GENERATED_IMAGES, GENERATED_SIDE_PX, seed=0)


def generate_images(count: int, side_px: int, seed: int) -> list[TrainingImage]:
    """Generate dead leaves, in the order of their digests: the same on every call.

    Args:
        count: of images.
        side_px: of each square image.
        seed: of the first image; each further image has the next number.
    """
    return _sort_by_digest(
        _identify(Path(GENERATED_FOLDER, str(number)), draw_dead_leaves(side_px, seed + number))
        for number in range(count)
    )


def fingerprint(images: Sequence[TrainingImage], held_out: Sequence[TrainingImage] = ()) -> str:
    """Return one SHA-256 for a whole set of training images. Their order does not matter.

    Args:
        images: the set.
        held_out: images for validation that are not among `images`.
    """
    parts = ["".join(image.digest for image in _sort_by_digest(part)) for part in (images, held_out) if part]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def split(images: Sequence[TrainingImage]) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Split images into training and validation images. Those with the smallest digests are held out for validation.

    So an image is held out under any name, in any folder and in any order.

    Returns:
        Training images and validation images, each in the order of their digests.
    Raises:
        DataError: there are fewer than two images.
    """
    if len(images) < 2:
        raise DataError(f"{len(images)} image is too few: one to learn from and one to validate on at least")
    ordered = _sort_by_digest(images)
    count = min(VALIDATION_IMAGES, max(1, len(ordered) // 10))
    return ordered[count:], ordered[:count]


def check_sizes(images: Sequence[TrainingImage], side_px: int) -> None:
    """Refuse images that are smaller than a square of `side_px`.

    Raises:
        DataError: there are such images; the message names the first one and says how many there are.
    """
    small = [image for image in images if min(image.pixels.shape[:2]) < side_px]
    if small:
        height, width = small[0].pixels.shape[:2]
        raise DataError(
            f"{small[0].path}: {width}x{height} is smaller than a training patch of {side_px}x{side_px}, as are "
            f"{len(small) - 1} more of the {len(images)} images; leave them out"
        )


def crop_centres(images: Sequence[TrainingImage], side_px: int) -> list[TrainingImage]:
    """Crop each image to a square of `side_px` in its middle. A side that is shorter stays as it is."""
    crops = []
    for image in images:
        top, left = (max(0, size - side_px) // 2 for size in image.pixels.shape[:2])
        crops.append(_identify(image.path, image.pixels[top : top + side_px, left : left + side_px]))
    return crops


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Low and high, uint8 (H, W, 3)."""

Teacher = Callable[[NDArray[np.uint8]], NDArray[np.uint8] | None]
"""Upscales uint8 (H, W, 3) to make a target; None where it fails on an image."""


def make_pairs(images: Sequence[TrainingImage], scale: int, variants: int = 0) -> list[Pair]:
    """Make a low-resolution partner of each image.

    Args:
        images: the high-resolution images. They are cropped so that their sides are multiples of `scale`.
        scale: output pixels per input pixel, along each side.
        variants: 0: lows are made by the field's protocol. Otherwise each image comes so many times, and each low is
            degraded in another way (`degrade.degrade_image`). The ways are the same on every call.
    Returns:
        Pairs in the order of the images, uint8 (H, W, 3) each.
    """
    highs = [crop_to_multiple(image.pixels, scale) for image in images]
    if not variants:
        return [(downscale(high, scale), high) for high in highs]
    seeds = [int(image.digest[:16], 16) for image in images]
    return [
        (degrade_image(high, scale, np.random.default_rng((seed, variant))), high)
        for high, seed in zip(highs, seeds, strict=True)
        for variant in range(variants)
    ]


class Patches:
    """Random pairs of patches from a set of images, cut on the device that trains.

    For each resolution, all images lie end to end in one buffer, so that a batch is a single gather on any device.
    """

    def __init__(
        self,
        images: Sequence[TrainingImage],
        scale: int,
        patch_px: int,
        device: torch.device,
        variants: int = 0,
    ) -> None:
        """Make the pairs and put them on the device.

        Args:
            images: at least one.
            scale: output pixels per input pixel, along each side.
            patch_px: side of a patch in low-resolution pixels.
            device: where the buffers lie and batches are cut.
            variants: as for `make_pairs`.
        Raises:
            DataError: an image is smaller than a patch.
        """
        check_sizes(images, patch_px * scale)
        pairs = make_pairs(images, scale, variants)
        self.scale, self.patch_px, self.device = scale, patch_px, device
        self.sizes = np.array([low.shape[:2] for low, _ in pairs])
        self._low = _Buffer([low for low, _ in pairs], device)
        self._high = self._targets = _Buffer([high for _, high in pairs], device)

    def precompute_targets(self, teacher: Teacher, stop: threading.Event) -> bool:
        """Let a teacher make a target for every low. If the teacher fails on an image, the target is the image itself.

        Args:
            teacher: from `teacher.make_teacher`.
            stop: set it to end after the current image.
        Returns:
            Whether all targets are made. False if `stop` was set; then no target is changed.
        """
        targets = []
        for number in range(len(self.sizes)):
            if stop.is_set():
                return False
            target = teacher(self._low.image(number))
            targets.append(self._high.image(number) if target is None else target)
        self._targets = _Buffer(targets, self.device)
        return True

    def batch(self, seed: int, step: int, size: int, from_teacher: bool = True) -> tuple[Tensor, Tensor]:
        """Return the training pairs of one step, each turned and flipped into one of its eight orientations.

        Args:
            seed, step: the same two numbers always give the same batch.
            size: number of pairs.
            from_teacher: whether high is the teacher's target if there is a teacher. Otherwise it is the image itself.
        Returns:
            low (size, 3, patch_px, patch_px) and high (size, 3, scale * patch_px, scale * patch_px), float32 in [0, 1].
        """
        random = np.random.default_rng((seed, step))
        image = random.integers(len(self.sizes), size=size)
        corner = random.integers(self.sizes[image] - self.patch_px + 1)
        orientation = random.integers(8, size=size)
        low = self._low.cut(image, corner, orientation, self.patch_px)
        target = self._targets if from_teacher else self._high
        return low, target.cut(image, corner * self.scale, orientation, self.patch_px * self.scale)


class _Buffer:
    """Images of any sizes, stored end to end. Pixels are found by index arithmetic."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        sizes = np.array([image.shape[0] * image.shape[1] for image in images])
        # A fourth byte makes a pixel one int32, which gathers several times faster than three bytes do.
        pixels = np.zeros((sizes.sum(), 4), np.uint8)
        pixels[:, :3] = np.concatenate([image.reshape(-1, 3) for image in images])
        self._pixels = torch.from_numpy(pixels.view(np.int32)[:, 0]).to(device)
        self._start = np.cumsum(sizes) - sizes
        self._width = np.array([image.shape[1] for image in images])

    def image(self, number: int) -> NDArray[np.uint8]:
        """Return the image at position `number`, (H, W, 3)."""
        first, end = np.append(self._start, len(self._pixels))[number : number + 2]
        return self._pixels[first:end].cpu().numpy().view(np.uint8).reshape(-1, self._width[number], 4)[..., :3]

    def cut(
        self, image: NDArray[np.int64], corner: NDArray[np.int64], orientation: NDArray[np.int64], side: int
    ) -> Tensor:
        """Return square patches (N, 3, side, side) in [0, 1].

        Args:
            image: (N,) positions of images.
            corner: (N, 2) row and column of each patch's upper left pixel.
            orientation: (N,) a bit each for a flip of rows, a flip of columns and a transpose.
            side: of the patches, in pixels.
        """
        width = self._width[image]
        flip_rows, flip_columns, transpose = (orientation >> bit & 1 for bit in range(3))
        first = self._start[image] + corner[:, 0] * width + corner[:, 1]
        first += (side - 1) * (flip_rows * width + flip_columns)
        along_rows, along_columns = width * (1 - 2 * flip_rows), 1 - 2 * flip_columns
        strides = np.where(transpose, (along_columns, along_rows), (along_rows, along_columns))
        table = torch.from_numpy(np.stack([first, *strides])).to(self._pixels.device)[:, :, None, None]
        line = torch.arange(side, device=self._pixels.device)
        index = table[0] + table[1] * line[:, None] + table[2] * line
        patches = self._pixels[index].view(torch.uint8).view(len(image), side, side, 4)
        return patches[..., :3].permute(0, 3, 1, 2).float() / 255
