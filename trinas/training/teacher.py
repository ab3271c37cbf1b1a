"""The teacher: a model to imitate, or a folder of targets that something else has made."""

import hashlib
from pathlib import Path

from trinas.config import UpscaleOptions
from trinas.errors import InconsistentResultError, MemoryShortageError, ModelError, RunError
from trinas.inference.tiled import TiledUpscaler
from trinas.training.data import Teacher
from trinas.training.metrics import Pixels
from trinas.training.targets import TargetFolder, is_target_folder, load_target_folder
from trinas.zoo.folder import Model, load_model
from trinas.zoo.record import TeacherRecord


def load_teacher(name: str | None, scale: int, variants: int = 0) -> Model | TargetFolder | None:
    """Load the model or open the folder of targets to imitate, if one is named.

    Args:
        name: a folder of targets (`targets.py`), or a model as `load_model` takes it. None: there is no teacher.
        scale: of the network that learns, in output pixels per input pixel along each side.
        variants: as `TrainConfig.variants`.
    Raises:
        ModelError: there is no such model or folder, it has another scale, or it was not made for such input.
    """
    if name is None:
        return None
    teacher = load_target_folder(Path(name)) if is_target_folder(Path(name)) else load_model(name)
    if teacher.scale != scale:
        raise ModelError(
            f"{name} upscales {teacher.scale} times and cannot teach a network that upscales {scale} times"
        )
    if variants and not (isinstance(teacher, Model) and teacher.config.restores):
        raise ModelError(f"{name} was made for clean input and cannot teach a network to restore photographs")
    return teacher


def describe_teacher(teacher: Model | TargetFolder) -> TeacherRecord:
    """Return what a run records about its teacher."""
    if isinstance(teacher, TargetFolder):
        return teacher.record.teacher
    weights = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in teacher.network.state_dict().values()))
    data: list[str] = []
    for stage in teacher.config.training.stages():
        data += [*stage.data, *(stage.taught_by.data if stage.taught_by else [])]
    return TeacherRecord(name=teacher.config.name, sha256=weights.hexdigest(), data=list(dict.fromkeys(data)))


def make_teacher(teacher: Model | TargetFolder, device: str, precision: str) -> Teacher:
    """Return the function that makes or reads a teacher's targets. A model uses the self-ensemble.

    Args:
        teacher: from `load_teacher`.
        device: cpu, cuda or mps.
        precision: fp32 or bf16. The error of bf16 is negligible beside the teacher's own error.
    Returns:
        A function from uint8 (H, W, 3) to uint8 (scale * H, scale * W, 3). It returns None for an image that the
        teacher fails on.
    """
    if isinstance(teacher, TargetFolder):
        return teacher.read
    upscaler = TiledUpscaler(teacher, device, precision)

    def upscale_or_none(low: Pixels) -> Pixels | None:
        try:
            return upscaler.upscale_rgb8(low, UpscaleOptions(self_ensemble=True))
        except InconsistentResultError:  # a result that fails its check is not worth imitating
            return None
        except MemoryShortageError:
            raise RunError(
                f"memory is too small for the teacher {teacher.config.name}; train without it, or on smaller images"
            ) from None

    return upscale_or_none
