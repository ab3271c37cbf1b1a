"""Targets made beforehand and kept in a folder, for teachers that are no models of this program.

A folder of targets holds `targets.json`, which says what made them, and a lossless image for each low-resolution image.
Its name is the digest of the low-resolution image, so a target can never go with another image.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from pydantic import BaseModel, ConfigDict, ValidationError

from trinas.errors import ImageError, ModelError, RunError
from trinas.files import translate_os_errors, write_atomically
from trinas.images.read import read_rgb8
from trinas.training.data import compute_digest
from trinas.zoo.record import TeacherRecord

TARGETS_FILE = "targets.json"
"""Its presence makes a folder one of targets."""


class TargetsRecord(BaseModel):
    """What `targets.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    scale: int
    """Output pixels per input pixel, along each side."""
    teacher: TeacherRecord


@dataclass(frozen=True)
class TargetFolder:
    """A folder of targets."""

    path: Path
    record: TargetsRecord

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        return self.record.scale

    def find(self, low: NDArray[np.uint8]) -> Path:
        """Return where the target of `low`, (H, W, 3), is or would be."""
        return self.path / f"{compute_digest(low)}.webp"

    def read(self, low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the target of `low`.

        Args:
            low: (H, W, 3).
        Returns:
            (scale * H, scale * W, 3).
        Raises:
            RunError: there is none, or it cannot be read or has another size.
        """
        path = self.find(low)
        if not path.is_file():
            raise RunError(f"{self.path}: has no target for one of the images; make the targets of all of them first")
        try:
            target = read_rgb8(path)
        except ImageError as error:
            raise RunError(f"{error}; make this target again") from None
        if target.shape != (low.shape[0] * self.scale, low.shape[1] * self.scale, 3):
            raise RunError(f"{path}: has another size than {self.scale} times its image; make this target again")
        return target

    def write(self, low: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Write the target of `low`; both as for `read`.

        Raises:
            RunError: the folder cannot be written.
        """
        content = io.BytesIO()
        PillowImage.fromarray(target).save(content, "webp", lossless=True, quality=0, method=0)
        with translate_os_errors(RunError, self.path, "written"):
            write_atomically(self.find(low), content.getvalue())


def make_target_folder(path: Path, record: TargetsRecord) -> TargetFolder:
    """Make a folder of targets, or open one that was made with the same record.

    Raises:
        ModelError: the folder has targets of another teacher or scale.
        RunError: it cannot be written.
    """
    if is_target_folder(path) and load_target_folder(path).record != record:
        raise ModelError(f"{path}: has targets of another teacher or scale; choose another folder")
    with translate_os_errors(RunError, path, "made"):
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / TARGETS_FILE, json.dumps(record.model_dump(), indent=2).encode())
    return TargetFolder(path, record)


def is_target_folder(path: Path) -> bool:
    """Return whether `path` is a folder of targets."""
    return (path / TARGETS_FILE).is_file()


def load_target_folder(path: Path) -> TargetFolder:
    """Open a folder of targets.

    Raises:
        ModelError: `targets.json` is missing or does not say what it has to.
    """
    file = path / TARGETS_FILE
    try:
        with translate_os_errors(ModelError, file, "read"):
            return TargetFolder(path, TargetsRecord.model_validate_json(file.read_bytes()))
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(map(str, reason["loc"]))
        raise ModelError(f"{file}: does not describe targets ({where or 'file'}: {reason['msg']})") from None
