"""Damaged files for `benchmarks/fuzz.py`: whole ones are made, damaged, and given to the program.

In a reading order: `seeds` (whole files of every kind, with `stored_images` for those that no library writes); `damage`
(one damaged file by its number), which chooses among `bytes_damage`, `parts_damage` (PNG, JPEG, WebP, AVIF, BMP),
`tiff_damage` (TIFF and EXIF), `text_damage` (XMP and JSON), `archive_damage` and `model_damage`; `checks` (what the
program must do with a file); and `worker` (a process that checks files, and may die of them).
"""

import sys
from pathlib import Path

# Images, profiles and files of every format are made where the tests have them.
sys.path.append(str(Path(__file__).parents[2] / "tests"))
