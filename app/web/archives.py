"""Archives of images: uploads are unpacked, results are packed."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from trinas.errors import ImageError
from trinas.files import HIDDEN
from trinas.text import replace_unsafe, shorten_text

from .limits import Limits
from .uploads import check_disk, number_names

METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflate"}
"""Compression methods that are unpacked. A few kilobytes of the others can take gigabytes of memory."""

UNREAD = {9: "Deflate64", zipfile.ZIP_BZIP2: "bzip2", zipfile.ZIP_LZMA: "LZMA", 93: "Zstandard", 95: "xz"}
ENCRYPTED = 0x1
"""Bit of a member's flags."""

DIRECTORY_BYTES = 4 << 20
"""Longest list of members in an archive. It is read at once; 1,000 members have about 0.1 MB."""

MOST_PARTS, MOST_BYTES = 32, 200
"""Folders and file in the path of a member, and the bytes of each name. The name of a result is a little longer."""

CHUNK = 1 << 20


class BoundedFile(io.BufferedReader):
    """An archive of which little is read at once, whatever it says about itself."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes.

        Raises:
            ImageError: they are too many.
        """
        if size is not None and size > DIRECTORY_BYTES:
            raise ImageError("an archive lists too many files")
        return super().read(size)


def unpack(uploads: Sequence[Path], folder: Path, limits: Limits) -> dict[Path, str]:
    """Copy the files of a batch into a folder.

    Archives are unpacked with their folders. Files that would get the same name are numbered.

    Args:
        uploads: files and archives.
        folder: is empty.
        limits: of a batch.
    Returns:
        Path in the folder -> why it is not there, for archives and members that cannot be unpacked.
    Raises:
        ImageError: the batch exceeds a limit.
    """
    copies = _Copies(folder, limits)
    for upload in uploads:
        with copies.note_problem(upload.name):
            if zipfile.is_zipfile(upload):
                _unpack_archive(upload, copies)
            else:
                copies.count(upload.name)
                with upload.open("rb") as file:
                    copies.add(upload.name, file)
    return copies.problems


def _unpack_archive(upload: Path, copies: "_Copies") -> None:
    with BoundedFile(io.FileIO(upload)) as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            copies.count(upload.name)
            with copies.note_problem(member.filename):
                if problem := find_problem(member):
                    raise _UnfitError(problem)
                with archive.open(member) as source:
                    copies.add(member.filename, source)


class _UnfitError(Exception):
    """A member that is not unpacked."""


class _Copies:
    """The files that are unpacked so far.

    Attributes:
        problems: as `unpack` returns them.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self._files, self._free_bytes = 0, limits.unpacked_mb * 1e6
        self.problems: dict[Path, str] = {}

    def count(self, upload: str) -> None:
        """Count one more file.

        Raises:
            ImageError: the batch has too many.
        """
        self._files += 1
        if self._files > self._limits.files:
            raise ImageError(f"{upload}: too many files; the limit is {self._limits.files} at once")

    def add(self, name: str, source: IO[bytes]) -> None:
        """Copy a file in pieces, since the sizes in an archive may be false. A part of a file is deleted.

        Raises:
            ImageError: the batch has too many bytes, or the disk is nearly full.
        """
        names = number_names(replace_unsafe(name))
        target = next(path for path in map(self._folder.joinpath, names) if not path.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("wb") as file:
                while chunk := source.read(CHUNK):
                    self._free_bytes -= len(chunk)
                    if self._free_bytes < 0:
                        raise ImageError(f"more than {self._limits.unpacked_mb:g} MB of files are too much at once")
                    check_disk(self._folder, self._limits)
                    file.write(chunk)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    @contextmanager
    def note_problem(self, name: str) -> Iterator[None]:
        """Note what is wrong with a file or an archive, and go on. Each compression has its own error classes."""
        try:
            yield
        except (ImageError, MemoryError):
            raise
        except Exception as error:
            shown = self._folder / replace_unsafe(name).lstrip("/")[-MOST_BYTES:]
            reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
            known = isinstance(error, _UnfitError)
            words = reason if known else f"is damaged, or cannot be unpacked here ({shorten_text(reason)})"
            self.problems[shown] = words


def find_problem(member: zipfile.ZipInfo) -> str:
    """Return why a member of an archive is not unpacked; empty if it is."""
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if not is_inside(member.filename):
        return "its path leads out of the archive"
    if len(parts) > MOST_PARTS or any(len(part.encode(errors="replace")) > MOST_BYTES for part in parts):
        return "its name is too long"
    if member.filename.lower().endswith(".zip"):
        return "an archive in an archive is not unpacked"
    if member.flag_bits & ENCRYPTED:
        return "is encrypted"
    if member.compress_type not in METHODS:
        method = UNREAD.get(member.compress_type, f"method {member.compress_type}")
        return f"is compressed by {method}; only {' and '.join(METHODS.values())} are unpacked"
    return ""


def is_inside(name: str) -> bool:
    """Return whether a path in an archive stays in the folder to which it is unpacked."""
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def write_zip(folder: Path, target: Path) -> Path:
    """Write an archive of a folder with its sub-folders and return `target`.

    The files are stored without compression, because images are compressed already.
    """
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(HIDDEN):
                archive.write(path, path.relative_to(folder))
    return target
