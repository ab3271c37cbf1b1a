"""Put a training run's network into models/, if it validates better than the one that is there.

    python benchmarks/bundle.py RUN NAME

The data folders that the run names are replaced by a description with their licence. Figures on the test sets
are left out: `benchmarks/quality.py --write` measures them anew. The run's curve and metrics stay in RUN.
"""

import argparse
import sys
from pathlib import Path

from trinas.store import ModelConfig, bundled_models, load_config, load_model, save_model

MODELS = Path(__file__).parent.parent / "models"

DATA_SETS = {
    "bsds400": "BSDS500 train and test, 400 photographs (research use)",
    "div2k_small": "DIV2K test at a quarter of its size, 100 photographs (research use)",
    "photos_cc0": "214 crops of 32 photographs (CC0 and public domain)",
    "generated": "100 generated images of dead leaves (our own)",
    "t91": "the classical 91 images (research use)",
}
"""Training folders by name, see docs/data.md."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    model = load_model(str(arguments.run))
    training = dict(model.config.training)
    if arguments.name in bundled_models():
        bundled = load_config(arguments.name).training
        if training["data_sha256"] != bundled["data_sha256"]:
            sys.exit(f"{arguments.run}: other training images, so other validation images: cannot be compared")
        if training["validation_psnr"] <= bundled["validation_psnr"]:
            ours, theirs = training["validation_psnr"], bundled["validation_psnr"]
            sys.exit(f"{arguments.run}: {ours} dB does not beat the bundled {theirs} dB")
    unknown = set(training["data"]) - set(DATA_SETS)
    if unknown:
        sys.exit(f"{arguments.run}: describe {', '.join(sorted(unknown))} and its licence in DATA_SETS first")
    training["data"] = [DATA_SETS[folder] for folder in training["data"]]
    config = ModelConfig(arguments.name, model.config.spec, "Apache-2.0", training)
    save_model(MODELS / arguments.name, model.network, config)
    print(
        f"{MODELS / arguments.name}: validation {training['validation_psnr']} dB; now run benchmarks/quality.py --write"
    )


if __name__ == "__main__":
    main()
