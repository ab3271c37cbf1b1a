"""Upscale public-domain photographs four times and compare them with bicubic.

    python examples/demo.py FOLDER

The photographs come with scikit-image: the cat Chelsea (Stefan van der Walt, CC0), a cup of coffee (Rachel
Michetti, CC0) and an astronaut (NASA, public domain).
"""

import subprocess
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from skimage import data, io

SCALE = 4
PHOTOGRAPHS = {"chelsea": data.cat, "coffee": data.coffee, "astronaut": data.astronaut}

CROPS = {"chelsea": (120, 75), "coffee": (265, 185), "astronaut": (160, 70)}
"""Top left corner (x, y) of the crop that is shown of each, in pixels of the original."""

CROP_WIDTH, CROP_HEIGHT = 150, 100
MARGIN, HEADER = 16, 56


def main() -> None:
    """Write photographs, results and comparison into the folder."""
    folder = Path(sys.argv[1])
    photos, upscaled = folder / "photos", folder / "upscaled"
    photos.mkdir(parents=True, exist_ok=True)
    for name, load in PHOTOGRAPHS.items():
        io.imsave(photos / f"{name}.png", load(), check_contrast=False)
    command = [sys.executable, "-m", "trinas_app", str(photos), "-s", str(SCALE), "-o", str(upscaled), "--overwrite"]
    subprocess.run(command, check=True)
    comparison = folder / "comparison.png"
    draw_comparison(photos, upscaled).save(comparison)
    print(f"\nThe photographs are in {photos}/, four times as large in {upscaled}/.")
    print(f"Look at {comparison}: bicubic on the left, TriNAS on the right.")
    print(f"Your own images: {Path(sys.executable).parent / 'trinas-upscale'} photos/ -s 4")


def draw_comparison(photos: Path, upscaled: Path) -> Image.Image:
    """Return an image with one row a photograph: the same crop by bicubic and by the network, at full size."""
    width, height = CROP_WIDTH * SCALE, CROP_HEIGHT * SCALE
    sheet = Image.new("RGB", (2 * width + 3 * MARGIN, HEADER + len(CROPS) * (height + MARGIN)), color=(255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(28)
    for column, title in enumerate(("Bicubic", "TriNAS")):
        draw.text((MARGIN + column * (width + MARGIN), HEADER // 2), title, fill=(31, 41, 51), font=font, anchor="lm")
    for row, (name, (left, top)) in enumerate(CROPS.items()):
        with Image.open(photos / f"{name}.png") as photo, Image.open(upscaled / f"{name}_x{SCALE}.png") as result:
            box = (left, top, left + CROP_WIDTH, top + CROP_HEIGHT)
            bicubic = photo.convert("RGB").resize((photo.width * SCALE, photo.height * SCALE), Image.Resampling.BICUBIC)
            upscaled_box = tuple(SCALE * edge for edge in box)
            for column, image in enumerate((bicubic, result.convert("RGB"))):
                place = (MARGIN + column * (width + MARGIN), HEADER + row * (height + MARGIN))
                sheet.paste(image.crop(upscaled_box), place)
    return sheet


if __name__ == "__main__":
    main()
