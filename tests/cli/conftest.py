"""The folder of an ordinary user."""

import imagecodecs
import numpy as np
import pytest

from support.command_line import save_image
from support.images import generated_photograph


@pytest.fixture
def photos(tmp_path):
    """The folder of an ordinary user: good images of every kind, and bad ones."""
    folder = tmp_path / "photos"
    folder.mkdir()
    levels = generated_photograph(24, 32)
    save_image(folder / "holiday.jpg", levels)
    alpha = np.where(np.arange(32) < 16, 255, 0).astype(np.uint8)[None].repeat(24, axis=0)
    save_image(folder / "logo.png", np.dstack([levels, alpha]))
    deep = levels[:, :, 0].astype(np.uint16) * 250 + 3
    (folder / "scan.png").write_bytes(imagecodecs.png_encode(deep))
    save_image(folder / "灰色 の 写真.png", levels[:, :, 0])
    (folder / "broken.jpg").write_bytes((folder / "holiday.jpg").read_bytes()[:-100])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image at all")
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.png").write_bytes(b"left alone")
    return folder
