"""Measure networks on the images that the trainings of the bundled models hold out.

    python benchmarks/validation.py DATA MODEL [MODEL ...]

DATA is laid out as docs/data.md says. A MODEL is a bundled model or a run. Prints the PSNR on each group of
validation.txt, in dB on Y, without rounding to 8 bits.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from trinas.errors import DataError
from trinas.training.data import TrainingImage, load_photographs, make_pairs, split
from trinas.training.metrics import measure_validation_psnr
from trinas.zoo.folder import load_model

VALIDATION_LIST = Path(__file__).with_name("validation.txt")
"""A line for each held-out image: its group, its digest (`TrainingImage.digest`), its folder and name."""

CROP_WORDS = {"photos_cc0": 2, "photos_free": 1}
"""Folders of crops: how many words at the end of a name, joined by `_`, tell the crops of a photograph apart."""


def main() -> None:
    """Measure the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    arguments = parser.parse_args()
    groups = load_groups(arguments.data)
    for name in arguments.models:
        model = load_model(name)
        variants = int(model.config.training.restores)
        psnrs = (
            f"{group} {measure_validation_psnr(model.network, make_pairs(images, model.scale, variants)):.4f}"
            for group, images in groups.items()
        )
        print(f"{name}: {', '.join(psnrs)}", flush=True)


def read_validation_list() -> dict[str, tuple[str, str]]:
    """Return digest -> (group, folder/name) of every held-out image."""
    lines = (line.split() for line in VALIDATION_LIST.read_text(encoding="utf-8").splitlines())
    return {digest: (group, name) for group, digest, name in lines}


def load_groups(data: Path) -> dict[str, list[TrainingImage]]:
    """Load the held-out images, by group.

    Raises:
        DataError: an image is missing or has other pixels.
    """
    listed = read_validation_list()
    folders = sorted({Path(name).parent.name for _, name in listed.values()})
    images = load_photographs([data / "train" / folder for folder in folders])
    found = {image.digest: image for image in images if image.digest in listed}
    missing = [name for digest, (_, name) in listed.items() if digest not in found]
    if missing:
        raise DataError(f"{data / 'train' / missing[0]}: is missing, or is not the image of {VALIDATION_LIST.name}")
    groups: dict[str, list[TrainingImage]] = {}
    for digest, (group, _) in listed.items():
        groups.setdefault(group, []).append(found[digest])
    return groups


def split_by_photograph(images: Sequence[TrainingImage]) -> tuple[list[TrainingImage], list[TrainingImage]]:
    """Split images into those to learn from and those to validate on, by the list.

    Other crops of a photograph that is validated on are in neither part. Images of which none is in the list are split
    as every training splits them (`data.split`).

    Returns:
        Training images and validation images, each in the order of their digests.
    Raises:
        DataError: there are fewer than two images, none of them in the list.
    """
    listed = read_validation_list()
    ordered = sorted(images, key=lambda image: image.digest)
    held_out = [image for image in ordered if image.digest in listed]
    if not held_out:
        return split(images)
    photographs = {find_photograph(image.path) for image in held_out}
    return [image for image in ordered if find_photograph(image.path) not in photographs], held_out


def find_photograph(path: Path) -> tuple[str, str]:
    """Return folder and name of the photograph that an image is, or is a crop of."""
    folder = path.parent.name
    return folder, path.stem.rsplit("_", CROP_WORDS.get(folder, 0))[0]


if __name__ == "__main__":
    main()
