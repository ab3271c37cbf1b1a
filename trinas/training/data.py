"""Training images: decoded once, cut into patches, a batch being a function of (seed, step)."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trinas.errors import DataError, ImageError
from trinas.images.formats import IMAGE_SUFFIXES, is_image_file
from trinas.images.read import read_rgb8
from trinas.training.degrade import crop_to_multiple, degraded, downscale
from trinas.training.state import STATE_FILE
from trinas.training.synthetic import dead_leaves

VALIDATION_IMAGES = 24
"""Held out of training, where there are at least ten times as many."""


GENERATED_IMAGES, GENERATED_SIDE_PX, GENERATED_FOLDER = 100, 256, "(generated)"
"""How many images are generated where there are no photographs, how large, and what stands for their folder."""


@dataclass(frozen=True)
class Photograph:
    """A decoded training image."""

    path: Path
    pixels: NDArray[np.uint8]  # (H, W, 3)
    digest: str  # SHA-256 of size and pixels


def load_photographs(folders: Sequence[Path]) -> list[Photograph]:
    """Decode every image of `folders`, sub-folders included but for runs; the same pixels are taken once.

    Returns:
        Photographs in the order of their digests, so that neither names nor folders matter.
    Raises:
        DataError: a folder is missing or holds no image, or an image cannot be read.
    """
    by_digest: dict[str, Photograph] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder")
        # A run folder among the photographs holds the curve of its training, which is none of them.
        paths = [
            path
            for path in sorted(folder.rglob("*"))
            if is_image_file(path) and not path.with_name(STATE_FILE).is_file()
        ]
        if not paths:
            raise DataError(f"{folder}: no images here to learn from (looked for {' '.join(IMAGE_SUFFIXES)})")
        for path in paths:
            try:
                pixels = read_rgb8(path)
            except ImageError as error:
                raise DataError(f"{error}; remove it from the training images") from None
            digest = _digest(pixels)
            by_digest[digest] = Photograph(path, pixels, digest)
    return [by_digest[digest] for digest in sorted(by_digest)]


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def default_images() -> list[Photograph]:
    """What is learnt from where there are no photographs."""
    return generated_photographs(GENERATED_IMAGES, GENERATED_SIDE_PX, seed=0)


def generated_photographs(count: int, side_px: int, seed: int) -> list[Photograph]:
    """Dead leaves in place of photographs, in the order of their digests: the same on every call."""
    images = [dead_leaves(side_px, seed + number) for number in range(count)]
    photographs = [
        Photograph(Path(GENERATED_FOLDER, str(number)), image, _digest(image)) for number, image in enumerate(images)
    ]
    return sorted(photographs, key=lambda photo: photo.digest)


def fingerprint(photographs: Sequence[Photograph]) -> str:
    """One hash for a whole set of training images."""
    return hashlib.sha256("".join(photo.digest for photo in photographs).encode()).hexdigest()


def split(photographs: Sequence[Photograph]) -> tuple[list[Photograph], list[Photograph]]:
    """Training and validation images; the latter are those with the smallest digests.

    So the same photograph is held out whatever it is called and in whatever order folders are named.

    Raises:
        DataError: there are fewer than two images.
    """
    if len(photographs) < 2:
        raise DataError(f"{len(photographs)} image is too few: one to learn from and one to validate on at least")
    count = min(VALIDATION_IMAGES, max(1, len(photographs) // 10))
    return list(photographs[count:]), list(photographs[:count])


def check_sizes(photographs: Sequence[Photograph], side_px: int) -> None:
    """Refuse photographs that a square of `side_px` does not fit into.

    Raises:
        DataError: says how many they are, and names the first of them.
    """
    small = [photo for photo in photographs if min(photo.pixels.shape[:2]) < side_px]
    if small:
        height, width = small[0].pixels.shape[:2]
        raise DataError(
            f"{small[0].path}: {width}x{height} is smaller than a training patch of {side_px}x{side_px}, as are "
            f"{len(small) - 1} more of the {len(photographs)} images; leave them out"
        )


def centre_crops(photographs: Sequence[Photograph], side_px: int) -> list[Photograph]:
    """The middle of each photograph, as much of a square of `side_px` as it holds."""
    crops = []
    for photo in photographs:
        top, left = (max(0, size - side_px) // 2 for size in photo.pixels.shape[:2])
        pixels = photo.pixels[top : top + side_px, left : left + side_px]
        crops.append(Photograph(photo.path, pixels, _digest(pixels)))
    return crops


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

Teacher = Callable[[NDArray[np.uint8]], NDArray[np.uint8] | None]
"""Enlarges uint8 (H, W, 3), in place of the photograph that it was made of."""


def image_pairs(photographs: Sequence[Photograph], scale: int, variants: int = 0) -> list[Pair]:
    """(low, high) of each photograph, uint8 (H, W, 3), made by the field's protocol.

    With `variants` each photograph comes that many times, its low each time `degraded` in another way: the same ways
    on every call.
    """
    highs = [crop_to_multiple(photo.pixels, scale) for photo in photographs]
    if not variants:
        return [(downscale(high, scale), high) for high in highs]
    seeds = [int(photo.digest[:16], 16) for photo in photographs]
    return [
        (degraded(high, scale, np.random.default_rng((seed, variant))), high)
        for high, seed in zip(highs, seeds, strict=True)
        for variant in range(variants)
    ]


class Patches:
    """Random patch pairs out of a set of photographs, cut on the device that trains.

    All images lie end to end in one buffer per resolution, so that a batch is a single gather on any device.
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        scale: int,
        patch_px: int,
        device: torch.device,
        variants: int = 0,
    ) -> None:
        """
        Args:
            photographs: at least one.
            scale: output pixels per input pixel, along each side.
            patch_px: side of a patch in low-resolution pixels.
            device: where the buffers lie and batches are cut.
            variants: as for `image_pairs`.
        Raises:
            DataError: an image is smaller than a patch.
        """
        check_sizes(photographs, patch_px * scale)
        pairs = image_pairs(photographs, scale, variants)
        self.scale, self.patch_px, self.device = scale, patch_px, device
        self.sizes = np.array([low.shape[:2] for low, _ in pairs])
        self._low = _Buffer([low for low, _ in pairs], device)
        self._high = self._taught = _Buffer([high for _, high in pairs], device)

    def be_taught(self, teacher: Teacher, stop: threading.Event) -> bool:
        """Let a teacher enlarge every low, for batches that are to imitate it; where it cannot, the photograph stays.

        Returns:
            Whether it came to the end; False where `stop` was set before, and nothing is taught.
        """
        targets = []
        for number in range(len(self.sizes)):
            if stop.is_set():
                return False
            taught = teacher(self._low.image(number))
            targets.append(self._high.image(number) if taught is None else taught)
        self._taught = _Buffer(targets, self.device)
        return True

    def batch(self, seed: int, step: int, size: int, taught: bool = True) -> tuple[Tensor, Tensor]:
        """The training pairs of one step, each turned and flipped into one of its eight orientations.

        Args:
            seed, step: the same two numbers always give the same batch.
            size: number of pairs.
            taught: whether high is the teacher's, where there is one, or the photograph's.
        Returns:
            low (size, 3, patch_px, patch_px) and high (size, 3, scale * patch_px, ...), float32 in [0, 1].
        """
        random = np.random.default_rng((seed, step))
        image = random.integers(len(self.sizes), size=size)
        corner = random.integers(self.sizes[image] - self.patch_px + 1)
        orientation = random.integers(8, size=size)
        low = self._low.cut(image, corner, orientation, self.patch_px)
        target = self._taught if taught else self._high
        return low, target.cut(image, corner * self.scale, orientation, self.patch_px * self.scale)


class _Buffer:
    """Images of any sizes end to end, to be read at (row, column) by index arithmetic."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        sizes = np.array([image.shape[0] * image.shape[1] for image in images])
        # A fourth byte makes a pixel one int32, which gathers several times faster than three bytes do.
        pixels = np.zeros((sizes.sum(), 4), np.uint8)
        pixels[:, :3] = np.concatenate([image.reshape(-1, 3) for image in images])
        self._pixels = torch.from_numpy(pixels.view(np.int32)[:, 0]).to(device)
        self._start = np.cumsum(sizes) - sizes
        self._width = np.array([image.shape[1] for image in images])

    def image(self, number: int) -> NDArray[np.uint8]:
        """What was put in as the image of that number, (H, W, 3)."""
        first, end = np.append(self._start, len(self._pixels))[number : number + 2]
        return self._pixels[first:end].cpu().numpy().view(np.uint8).reshape(-1, self._width[number], 4)[..., :3]

    def cut(
        self, image: NDArray[np.int64], corner: NDArray[np.int64], orientation: NDArray[np.int64], side: int
    ) -> Tensor:
        """Square patches (N, 3, side, side) in [0, 1]; `orientation` has a bit each for flips and transpose."""
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
