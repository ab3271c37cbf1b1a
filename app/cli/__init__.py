"""The command line: `commands` has them all."""

from .commands import cli, main

__all__ = ["cli", "main"]
