"""The example in a bundled model's card: a detail upscaled by bicubic, by the network, and the original.

The photograph comes with scikit-image: the cat Chelsea, by Stefan van der Walt, CC0.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from trinas.files import write_atomically
from trinas.inference.tiled import TiledUpscaler
from trinas.training.degrade import compress_jpeg, crop_to_multiple, downscale
from trinas.training.metrics import upscale_bicubic
from trinas.zoo.folder import load_model
from trinas.zoo.record import EXAMPLE_FILE

CREDIT = "Chelsea, by Stefan van der Walt, CC0"
LEFT, TOP, WIDTH, HEIGHT = 120, 62, 132, 96
"""The detail that is shown, in pixels of the original; multiples of all scales."""
ZOOM = 2
JPEG_QUALITY = 50
"""Quality of the input of restoration models."""
MARGIN, HEADER, FOOTER = 8, 24, 24
INK, FAINT_INK, PAPER = "#1f2933", "#616e7c", "#ffffff"


def write_example(folder: Path) -> None:
    """Write the example of a model into its folder. On one machine every run writes the same bytes."""
    model = load_model(str(folder))
    high = crop_to_multiple(data.cat(), model.scale)
    low = downscale(high, model.scale)
    how = f"reduced {model.scale} times"
    if model.config.restores:
        low = compress_jpeg(low, JPEG_QUALITY)
        how += f" and saved as JPEG of quality {JPEG_QUALITY}"
    upscaler = TiledUpscaler(model, "cpu", "fp32")
    columns = {"bicubic": upscale_bicubic(low, model.scale), folder.name: upscaler.upscale_rgb8(low), "original": high}
    buffer = io.BytesIO()
    draw_sheet(columns, f"{CREDIT}; the input was {how}.").save(buffer, "WEBP", quality=90, method=6)
    write_atomically(folder / EXAMPLE_FILE, buffer.getvalue())


def draw_sheet(columns: dict[str, np.ndarray], words: str) -> Image.Image:
    """Draw the detail of each image side by side, labelled, on a white card."""
    width, height = WIDTH * ZOOM, HEIGHT * ZOOM
    size = (len(columns) * (width + MARGIN) + MARGIN, HEADER + height + FOOTER)
    card = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(card)
    for number, (name, pixels) in enumerate(columns.items()):
        left = MARGIN + number * (width + MARGIN)
        detail = Image.fromarray(pixels[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH])
        # Nearest neighbour adds no smoothing to that of the networks.
        card.paste(detail.resize((width, height), Image.Resampling.NEAREST), (left, HEADER))
        draw.text((left, HEADER // 2), name, fill=INK, font=ImageFont.load_default(14), anchor="lm")
    middle = HEADER + height + FOOTER // 2
    draw.text((MARGIN, middle), words, fill=FAINT_INK, font=ImageFont.load_default(12), anchor="lm")
    return card
