"""Download, check and unpack public training sets. An interrupted download can be continued."""

import hashlib
import http.client
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from trinas.errors import DataError
from trinas.files import translate_os_errors, write_atomically

BLOCK_BYTES = 1 << 20
TIMEOUT_S = 30
"""A connection counts as lost after so many seconds without a byte."""

ATTEMPTS, PAUSE_S = 5, 2.0
"""How many connections in a row may bring nothing before the download fails, and the pause between them."""


@dataclass(frozen=True)
class DataSet:
    """A public set of photographs, in one archive."""

    url: str
    md5: str
    """Checksum of the archive, as its authors or their users published it."""
    images_in: str
    """Folder in the archive that holds the training images."""
    images: int
    """How many training images there are."""
    about: str
    """What the set is, and its terms of use."""


DATA_SETS = {
    "div2k": DataSet(
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip",
        "bdc2d9338d4e574fe81bf7d158758658",
        "DIV2K_train_HR",
        800,
        "DIV2K, 800 training photographs of about 2040x1400, 3.5 GB, academic research only",
    ),
    "flickr2k": DataSet(
        "https://cv.snu.ac.kr/research/EDSR/Flickr2K.tar",
        "5d3f39443d5e9489bff8963f8f26cb03",
        "Flickr2K/Flickr2K_HR",
        2650,
        "Flickr2K, 2650 photographs of about 2040x1400, 20 GB, academic research only",
    ),
}
"""Name on the command line -> the set."""


def get_data_set(data_set: DataSet, folder: Path, on_progress: Callable[[str, int, int], None]) -> Path:
    """Download and unpack a set; continue where an earlier call was interrupted or killed.

    The archive is removed once it is unpacked; only its images are kept.

    Args:
        data_set: one of `DATA_SETS`.
        folder: gets a sub-folder with the images. It is made if it does not exist.
        on_progress: called with the name of the work, how much of it is done, and how much there is (0: unknown).
    Returns:
        The sub-folder, ready for `train --data`.
    Raises:
        DataError: the server cannot be reached or refuses, the download is not the published archive, or the disk is
            full.
    """
    images = folder / PurePosixPath(data_set.images_in).name
    if _count_images(images) == data_set.images:
        return images
    archive = folder / PurePosixPath(data_set.url).name
    try:
        with translate_os_errors(DataError, folder, "written", "run the same again once it can"):
            folder.mkdir(parents=True, exist_ok=True)
            if not archive.exists():
                part = archive.with_name(archive.name + ".part")
                _download(data_set.url, part, lambda done, total: on_progress("Downloading", done, total))
                _check_md5(data_set, part, lambda done, total: on_progress("Checking", done, total))
                part.rename(archive)
            images.mkdir(exist_ok=True)
            for number, (name, content) in enumerate(_read_images(archive, data_set.images_in), 1):
                if not (images / name).exists():
                    write_atomically(images / name, content())
                on_progress("Unpacking", number, data_set.images)
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); remove it and run the same again") from None
    if _count_images(images) != data_set.images:
        raise DataError(
            f"{images}: has {_count_images(images)} images instead of {data_set.images}; remove the folder and run the "
            "same again"
        )
    archive.unlink()
    return images


def _count_images(images: Path) -> int:
    return sum(not path.name.startswith(".") for path in images.iterdir()) if images.is_dir() else 0


def _download(url: str, part: Path, on_progress: Callable[[int, int], None]) -> None:
    """Download the rest of `part`, with a new connection whenever one breaks."""
    failures = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        try:
            with part.open("ab") as file:
                _fetch_rest(url, file, have, on_progress)
            return
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # `part` is complete
                return
            if error.code < 500:
                raise DataError(f"{url}: the server refused ({error.code} {error.reason})") from None
            reason: object = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
        failures = 1 if part.exists() and part.stat().st_size > have else failures + 1
        if failures == ATTEMPTS:
            kept = f"; {have / 1e6:,.0f} MB are kept, the same command continues from there"
            if not have:
                part.unlink(missing_ok=True)
                kept = "; see whether you are online, and run the same again"
            raise DataError(f"{url}: cannot be downloaded ({reason}){kept}")
        time.sleep(PAUSE_S)


def _fetch_rest(url: str, file: BinaryIO, have: int, on_progress: Callable[[int, int], None]) -> None:
    # Without "identity" a proxy may compress the file, so that positions would mean other bytes.
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "trinas-upscale"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if have and response.status != 206:  # the server sends everything again
            file.truncate(0)
            have = 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else 0
        while block := response.read1(BLOCK_BYTES):
            file.write(block)
            have += len(block)
            on_progress(have, total)
    if have < total:
        raise ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def _check_md5(data_set: DataSet, part: Path, on_progress: Callable[[int, int], None]) -> None:
    """Compare `part` with the published checksum; remove it if it differs."""
    digest, done, total = hashlib.md5(usedforsecurity=False), 0, part.stat().st_size
    with part.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            on_progress(done, total)
    if digest.hexdigest() != data_set.md5:
        part.unlink()
        raise DataError(
            f"{data_set.url}: the download has another checksum than the published archive ({digest.hexdigest()} "
            f"instead of {data_set.md5}), and was removed; run the same again, or see whether the set has moved"
        )


def _read_images(archive: Path, images_in: str) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield name and content of each training image. All other entries and all paths are ignored."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if _is_training_image(entry.filename, images_in):
                    yield PurePosixPath(entry.filename).name, partial(packed.read, entry)
    else:
        with tarfile.open(archive) as packed_tar:
            for member in packed_tar:
                if member.isfile() and _is_training_image(member.name, images_in):
                    file = packed_tar.extractfile(member)
                    assert file is not None
                    yield PurePosixPath(member.name).name, file.read


def _is_training_image(name: str, images_in: str) -> bool:
    path = PurePosixPath(name)
    return path.parent == PurePosixPath(images_in) and path.suffix.lower() == ".png"
