"""Generated images."""

import numpy as np
from numpy.typing import NDArray


def generated_photograph(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth shading, hard edges and some grain, uint8 (H, W, 3): the same on every machine."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 127 // width], axis=2)
    for _ in range(12):
        row, column, radius = random.integers(0, [height, width, max(2, height // 3)])
        image[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = random.integers(0, 256, size=3)
    return np.clip(image + random.integers(-8, 9, size=image.shape), 0, 255).astype(np.uint8)
