"""Archives in and out."""

import random
import struct
import zipfile
from pathlib import Path

import pytest
from trinas_app.web.archives import DIRECTORY_BYTES, MOST_BYTES, MOST_PARTS, is_inside, unpack, write_zip
from trinas_app.web.limits import Limits

from trinas.errors import ImageError
from trinas.text import is_plain_text, replace_unsafe

LIMITS = Limits(free_mb=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where files are unpacked to."""
    made = tmp_path / "batch"
    made.mkdir()
    return made


def make_archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack_problems(uploads: list[Path], folder: Path, limits: Limits = LIMITS) -> dict[str, str]:
    return {str(path.relative_to(folder)): problem for path, problem in unpack(uploads, folder, limits).items()}


def test_an_archive_of_a_folder_keeps_its_tree_without_hidden_files(tmp_path):
    folder = tmp_path / "results"
    (folder / "sea").mkdir(parents=True)
    for name in ("b.png", "sea/a.png", ".trinas-x.tmp"):
        (folder / name).write_bytes(name.encode())
    with zipfile.ZipFile(write_zip(folder, tmp_path / "results.zip")) as archive:
        assert archive.namelist() == ["b.png", "sea/a.png"]
        assert archive.read("sea/a.png") == b"sea/a.png"


def test_files_of_one_name_are_numbered(folder, tmp_path):
    paths = [tmp_path / name / "cat.png" for name in ("one", "other")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(path.parent.name.encode())
    assert unpack(paths, folder, LIMITS) == {}
    assert read_files(folder) == {"cat.png": b"one", "cat-2.png": b"other"}


def test_archives_with_files_of_one_name_lose_none(folder, tmp_path):
    uploads = [make_archive(tmp_path / f"{name}.zip", {"sea/1.png": name.encode()}) for name in ("a", "b")]
    (tmp_path / "1.png").write_bytes(b"c")
    uploads += [tmp_path / "1.png", make_archive(tmp_path / "d.zip", {"1.png": b"d"}, zipfile.ZIP_DEFLATED)]
    assert unpack(uploads, folder, LIMITS) == {}
    assert read_files(folder) == {"sea/1.png": b"a", "sea/1-2.png": b"b", "1.png": b"c", "1-2.png": b"d"}


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        (Limits(files=5, free_mb=0), "c.zip: too many files; the limit is 5"),
        (Limits(unpacked_mb=1, free_mb=0), "more than 1 MB of files are too much at once"),
        (Limits(free_mb=1e12), "the disk of this server is nearly full"),
    ],
)
def test_limits_hold_for_the_whole_batch(folder, tmp_path, limits, complaint):
    members = {f"{number}.png": bytes(300_000) for number in range(2)}
    uploads = [make_archive(tmp_path / f"{name}.zip", members, zipfile.ZIP_DEFLATED) for name in "abcd"]
    with pytest.raises(ImageError, match=complaint):
        unpack(uploads, folder, limits)
    assert sum(map(len, read_files(folder).values())) <= 1_500_000


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../evil.png", "leads out"),
        ("/evil.png", "leads out"),
        ("a\\..\\..\\evil.png", "leads out"),
        ("inner.zip", "archive in an archive"),
        (f"{'a' * (MOST_BYTES + 1)}.png", "too long"),
        ("a/" * MOST_PARTS + "deep.png", "too long"),
        ("a.png/under-a-file.png", "cannot be unpacked here"),
    ],
)
def test_a_member_that_is_not_unpacked_fails_alone(folder, tmp_path, name, problem):
    upload = make_archive(tmp_path / "odd.zip", {"a.png": b"a", name: b"x", "z.png": b"z"})
    ((path, found),) = unpack_problems([upload], folder).items()
    assert problem in found
    assert ".." not in Path(path).parts or "leads out" in found
    assert read_files(folder) == {"a.png": b"a", "z.png": b"z"}
    assert not [path for path in tmp_path.rglob("*") if path.name in ("evil.png", "deep.png")]


@pytest.mark.parametrize(
    ("compression", "word"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA"), (99, "method 99")]
)
def test_only_stored_and_deflated_members_are_unpacked(folder, tmp_path, compression, word):
    """In other methods a few kilobytes can take gigabytes of memory."""
    upload = make_archive(tmp_path / "bomb.zip", {"a.png": b"x"}, min(compression, zipfile.ZIP_LZMA))
    overwrite(upload, 8, struct.pack("<H", compression))
    assert unpack_problems([upload], folder) == {
        "a.png": f"is compressed by {word}; only stored and deflate are unpacked"
    }


def overwrite(upload: Path, field: int, value: bytes) -> None:
    """Replace a field of the only member: in its own header and, two bytes further, in the directory at the end."""
    content = bytearray(upload.read_bytes())
    for start in (field, content.index(b"PK\x01\x02") + field + 2):
        content[start : start + len(value)] = value
    upload.write_bytes(content)


def test_an_encrypted_member_is_named(folder, tmp_path):
    upload = make_archive(tmp_path / "sealed.zip", {"a.png": b"x"})
    overwrite(upload, 6, b"\x01\x00")
    assert unpack_problems([upload], folder) == {"a.png": "is encrypted"}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_fails_alone_and_leaves_no_part(folder, tmp_path, compression):
    members = {"a.png": random.Random(0).randbytes(2_500_000), "z.png": b"z"}
    upload = make_archive(tmp_path / "damaged.zip", members, compression)
    content = bytearray(upload.read_bytes())
    content[2_000_000:2_000_100] = bytes(100)
    upload.write_bytes(content)
    ((path, problem),) = unpack_problems([upload], folder).items()
    assert (path, "is damaged" in problem) == ("a.png", True)
    assert read_files(folder) == {"z.png": b"z"}


def test_what_is_wrong_with_a_member_is_said_in_one_short_line(folder, tmp_path):
    """Python's own message repeats both names."""
    name = "/".join(["a" * 200] * 20)
    upload = make_archive(tmp_path / "names.zip", {name: b"x"})
    overwrite(upload, 30, b"\n")  # the first letter of the name in front of the member, not in the list of members
    (problem,) = unpack_problems([upload], folder).values()
    assert problem.startswith("is damaged, or cannot be unpacked here (File name in directory")
    assert len(problem) < 400
    assert is_plain_text(problem)


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_a_damaged_archive_fails_alone(folder, tmp_path, kept):
    """A piece of an archive is taken for a file, whose name then is not that of an image."""
    upload = make_archive(tmp_path / "cut.zip", {f"{number}.png": b"x" for number in range(100)})
    content = upload.read_bytes()
    upload.write_bytes(content[: int(len(content) * kept)] + (content[-22:] if kept < 0.9 else b""))
    (tmp_path / "z.png").write_bytes(b"z")
    problems = unpack_problems([upload, tmp_path / "z.png"], folder)
    assert set(problems) | set(read_files(folder)) == {"cut.zip", "z.png"}
    assert "z.png" in read_files(folder)


def test_a_list_of_members_that_would_fill_the_memory_is_not_read(folder, tmp_path):
    upload = tmp_path / "long.zip"
    entries = DIRECTORY_BYTES + 1
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, entries, 0, 0)
    upload.write_bytes(bytes(entries) + end)
    with pytest.raises(ImageError, match="lists too many files"):
        unpack([upload], folder, LIMITS)


def test_names_lose_what_could_deceive_or_break_a_line(folder, tmp_path):
    upload = make_archive(
        tmp_path / "names.zip", {"a\nb\x1b[2J.png": b"1", "c\u202egnp.exe.png": b"2", "žluť 猫 👩‍🚀.png": b"3"}
    )
    assert unpack([upload], folder, LIMITS) == {}
    assert read_files(folder) == {"a_b_[2J.png": b"1", "c_gnp.exe.png": b"2", "žluť 猫 👩‍🚀.png": b"3"}
    assert replace_unsafe("\ud800.png") == "_.png"


@pytest.mark.parametrize("name", ["a.png", "b/a.png", "..a/b..png"])
def test_ordinary_paths_stay_inside(name):
    assert is_inside(name)


@pytest.mark.parametrize("name", ["", "/a", "..", "a/../../b", "..\\b", "C:\\b", "\\b"])
def test_other_paths_do_not(name):
    assert not is_inside(name)
