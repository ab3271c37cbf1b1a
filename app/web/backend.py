"""What all tabs share."""

from dataclasses import dataclass
from pathlib import Path

from trinas.images.guard import DecoderPool

from .catalogue import Catalogue
from .limits import Limits
from .runner import Runner
from .uploads import Sessions


@dataclass(frozen=True)
class Backend:
    """Everything that the tabs work with. It does not depend on how the page looks."""

    limits: Limits
    sessions: Sessions
    catalogue: Catalogue
    decoders: DecoderPool
    """Open all files of visitors, which may be hostile."""
    runner: Runner

    @staticmethod
    def create(folder: Path, limits: Limits | None = None, device: str = "auto") -> "Backend":
        """Return a backend.

        Args:
            folder: for the files of visitors.
            limits: of each visitor; None: the defaults.
            device: where networks run.
        """
        limits = limits or Limits()
        catalogue, decoders = Catalogue(device), DecoderPool(limits.seconds_per_file)
        runner = Runner(catalogue, decoders, limits, folder)
        return Backend(limits, Sessions(folder, limits), catalogue, decoders, runner)
