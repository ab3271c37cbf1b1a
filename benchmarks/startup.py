"""How soon the command line answers, beside Python itself and the imports that it avoids.

python benchmarks/startup.py
"""

import argparse
import statistics
import subprocess
import sys

from trinas.timer import Timer

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "trinas-upscale --help": [sys.executable, "-m", "trinas_app", "--help"],
    "trinas-upscale --version": [sys.executable, "-m", "trinas_app", "--version"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import gradio": [sys.executable, "-c", "import gradio"],
}
ROUNDS = 7


def main() -> None:
    """Print the median time of each command."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round_number in range(ROUNDS + 1):
        for name, command in COMMANDS.items():  # in turn, so that a slow moment affects all of them
            with Timer() as timer:
                subprocess.run(command, check=True, capture_output=True)
            if round_number > 0:  # the first only fills the file cache
                seconds[name].append(timer.seconds)
    reference = statistics.median(seconds["import torch"])
    print("| command | median, s | against `import torch` |")
    print("| --- | --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(values) / reference:.2f} |")


if __name__ == "__main__":
    main()
