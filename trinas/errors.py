"""Everything that can go wrong for a user, one line each.

    TrinasError
    ├── ImageError        an image file cannot be read, held or written
    ├── SpecError         an architecture description is not valid
    ├── ModelError        a model folder is missing, damaged or does not fit
    ├── DataError         training or test images are missing or do not fit
    ├── RunError          a run folder cannot be started or resumed
    ├── BudgetError       no network of a search space meets the budgets
    └── UpscaleError      an image cannot be upscaled
        ├── InconsistentResultError   the network's result does not match its input
        └── MemoryShortageError       memory is too small

A `TrinasError` is about files, models and runs: its text names what, which file, why, and what to do.
Wrong arguments of a library call raise `ValueError`; our own bugs are `AssertionError`s.
"""


class TrinasError(Exception):
    """Base of every error a user can meet; its text is one line."""


class Stopped(BaseException):
    """Raised by a caller's `on_tile` to end the work. A BaseException, so that `except Exception` does not catch it."""


class ImageError(TrinasError):
    """An image file cannot be read, held in memory, or written."""


class SpecError(TrinasError):
    """An architecture description is not one this version can build."""


class ModelError(TrinasError):
    """A model is missing, damaged, or does not fit what was asked of it."""


class DataError(TrinasError):
    """Training or test images are missing, too few or too small."""


class RunError(TrinasError):
    """A run folder cannot be started, continued or trusted."""


class BudgetError(TrinasError):
    """A budget is smaller than the smallest network, or measured time cannot be brought below it."""


class UpscaleError(TrinasError):
    """An image cannot be upscaled."""


class InconsistentResultError(UpscaleError):
    """A network's result does not match its input, even in full precision. Another model may do better."""


class MemoryShortageError(UpscaleError):
    """Memory is too small for this image."""
