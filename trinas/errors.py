"""The errors that a user can meet.

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

A `TrinasError` is about files, models and runs. Its text is one line that says what is wrong, with which file, why,
and what to do. Wrong arguments of a library call raise `ValueError`. Our own bugs raise `AssertionError`.
"""


class TrinasError(Exception):
    """Base of all errors that a user can meet. Its text is one line."""


class Stopped(BaseException):
    """Raised to end the work: by a caller's `on_tile`, or by a write while the program ends.

    As a BaseException, it is not caught by `except Exception`.
    """


class ImageError(TrinasError):
    """An image file cannot be read, held in memory, or written."""


class SpecError(TrinasError):
    """This version cannot build the architecture that is described."""


class ModelError(TrinasError):
    """A model is missing or damaged, or cannot do what was asked."""


class DataError(TrinasError):
    """Training or test images are missing, too few or too small."""


class RunError(TrinasError):
    """A run cannot be started or resumed in a folder, or a file of a run is damaged."""


class BudgetError(TrinasError):
    """A budget is smaller than the smallest network, or the measured time cannot be brought below it."""


class UpscaleError(TrinasError):
    """An image cannot be upscaled."""


class InconsistentResultError(UpscaleError):
    """A network's result does not match its input, even in full precision. Another model may do better."""


class MemoryShortageError(UpscaleError):
    """Memory is too small for this image."""
