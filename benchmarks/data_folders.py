"""Where the images of the test sets are."""

from pathlib import Path


def list_test_sets(data: Path, scale: int) -> dict[str, Path]:
    """Return the folder of high-resolution images of each test set.

    Args:
        data: laid out as docs/data.md says.
        scale: output pixels per input pixel. The images of Set14 were cropped to its multiples.
    """
    folders = {"Set5": "Set5/HR", "Set14": f"Set14/HR_x{scale}", "BSD100": "BSD100"}
    return {name: data / "benchmarks" / folder for name, folder in folders.items()}
