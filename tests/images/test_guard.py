import json
import os
import signal
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from support.format_matrix import cases, source_levels, write_source
from support.images import generated_photograph, slow_jpeg
from support.processes import PATIENCE_S, is_running, list_decoders, start, wait_until
from trinas.errors import ImageError, Stopped
from trinas.images import guard
from trinas.images.decoder_process import measure_address_space
from trinas.images.guard import DecoderPool
from trinas.images.read import open_image

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@pytest.fixture
def pool():
    with DecoderPool(PATIENCE_S) as decoders:
        yield decoders
    assert not any(map(is_running, list_decoders()))


@pytest.fixture
def photo(tmp_path):
    PillowImage.fromarray(generated_photograph(20, 30)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def slow(tmp_path):
    (tmp_path / "slow.jpg").write_bytes(slow_jpeg())
    return tmp_path / "slow.jpg"


@pytest.fixture
def stuck(tmp_path):
    """A file that cannot be opened before somebody writes into it."""
    os.mkfifo(tmp_path / "stuck.png")
    return tmp_path / "stuck.png"


def assert_decodes(pool, photo):
    assert torch.equal(pool.open_image(photo).read().pixels, open_image(photo).read().pixels)


def test_images_are_those_of_this_process(pool, tmp_path):
    """Of every format and kind, with all that is known about them."""
    for case in cases():
        path = tmp_path / f"source.{case.suffix}"
        write_source(path, case, source_levels(case))
        here, there = open_image(path), pool.open_image(path)
        assert there.header == here.header, case
        expected, image = here.read(), there.read()
        assert torch.equal(image.pixels, expected.pixels), case
        for name in ("depth", "icc_profile", "metadata", "is_lossless_webp", "jpeg_quality", "notes"):
            assert getattr(image, name) == getattr(expected, name), f"{name} of {case}"
        np.testing.assert_array_equal(there.read_rgb8(), here.read_rgb8(), str(case))
    assert len(list_decoders()) <= 2, "processes are used again"


def test_errors_are_those_of_this_process(pool, photo, tmp_path):
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:-200])
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_bytes(b"no image " * 10)
    for path in (tmp_path / "cut.png", tmp_path / "empty.png", tmp_path / "words.png", tmp_path / "none.png", tmp_path):
        with pytest.raises(ImageError) as here:
            open_image(path).read()
        with pytest.raises(ImageError) as there:
            pool.open_image(path).read()
        assert str(there.value) == str(here.value)
    with pytest.raises(ImageError, match="30x20 is too large; the limit is 100 pixels"):
        pool.open_image(photo, 100)
    assert len(list_decoders()) <= 2, "a damaged file costs no process"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGSEGV, r"its decoder crashed \(signal 11\); the file is damaged or hostile"),
        (signal.SIGABRT, r"its decoder crashed \(signal 6\); the file is damaged or hostile"),
        (signal.SIGKILL, r"its decoder was ended from outside \(signal 9\), perhaps because memory ran out"),
    ],
)
def test_a_crash_costs_one_file(pool, photo, slow, number, words):
    opened = pool.open_image(slow)
    with ThreadPoolExecutor(1) as others:
        decoding = others.submit(opened.read)
        (pid,) = list_decoders()
        os.kill(pid, number)
        with pytest.raises(ImageError, match=f"^{slow}: {words}$"):
            decoding.result(PATIENCE_S)
    with pytest.raises(ImageError, match="its decoder has been ended"):
        opened.read()
    assert_decodes(pool, photo)
    assert not is_running(pid)


def test_the_hostile_files_that_were_found_cost_one_file_each(data_dir, pool, photo):
    """Among them are some that crash or stall decoders of some versions."""
    hostile = data_dir.parent / "cases" / "hostile"
    files = [*hostile.glob("segv_*"), *hostile.glob("tiff_*"), *hostile.glob("case_*")]
    if not files:
        pytest.skip("there are none beside TRINAS_DATA")
    with DecoderPool(5) as hasty:
        for path in files:
            try:
                hasty.open_image(path).read()
            except ImageError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017
            assert_decodes(pool, photo)


def test_a_crash_between_two_files_costs_none(pool, photo):
    assert_decodes(pool, photo)
    (pid,) = list_decoders()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert_decodes(pool, photo)


def test_time_is_limited_while_decoding(photo, slow):
    with DecoderPool(max_seconds=3) as pool:
        with pytest.raises(ImageError, match=r"slow.jpg: decoding took longer than 3 s \(--max-seconds-per-file\)$"):
            pool.open_image(slow).read()
        assert list_decoders() == []
        assert_decodes(pool, photo)


def test_time_is_limited_while_opening(photo, stuck):
    with DecoderPool(max_seconds=0.5) as pool, pytest.raises(ImageError, match=r"decoding took longer than 0.5 s"):
        pool.open_image(stuck)


def test_the_time_of_a_file_is_that_of_all_its_steps(pool, slow):
    opened = pool.open_image(slow)
    left = opened._encoded._clock.left_s
    assert 0 < left < PATIENCE_S
    opened._encoded._clock.left_s = 0
    with pytest.raises(ImageError, match="decoding took longer"):
        opened.read()


@pytest.mark.parametrize("step", ["opening", "decoding"])
def test_a_stop_ends_the_decoder(pool, photo, slow, stuck, step):
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise Stopped("enough")

    with pytest.raises(Stopped, match="enough"):
        pool.open_image(stuck if step == "opening" else slow, check=check).read()
    assert list_decoders() == []
    assert_decodes(pool, photo)


@pytest.mark.skipif(not measure_address_space(), reason="this system does not say how much memory a process has")
def test_memory_is_limited(pool, tmp_path, photo, monkeypatch):
    PillowImage.new("L", (8000, 8000)).save(tmp_path / "large.png")
    opened = pool.open_image(tmp_path / "large.png")
    monkeypatch.setattr(guard, "_FIXED_BYTES", (50 << 20) - opened.header.reading_bytes)
    with pytest.raises(ImageError, match=r"large.png: decoding takes more than 50 MB of memory, too much for its size"):
        opened.read()
    monkeypatch.undo()
    assert opened.read().size == (8000, 8000), "the process is used again"
    assert_decodes(pool, photo)


@pytest.mark.parametrize("is_busy", [True, False])
def test_no_process_outlives_the_program(photo, slow, is_busy):
    code = (
        "import sys; from trinas.images.guard import DecoderPool\n"
        "opened = DecoderPool().open_image(sys.argv[1])\n"
        "print('opened', flush=True)\n" + ("opened.read()" if is_busy else "sys.stdin.read()")
    )
    with start(sys.executable, "-c", code, slow if is_busy else photo) as program:
        assert program.stdout.readline() == "opened\n", program.stderr.read()
        (pid,) = list_decoders(program.pid)
        program.kill()
        wait_until(lambda: not is_running(pid))


def test_closing_ends_what_other_threads_wait_for(slow):
    pool = DecoderPool()
    opened = pool.open_image(slow)
    with ThreadPoolExecutor(1) as others:
        decoding = others.submit(opened.read)
        pool.close()
        with pytest.raises(ImageError, match="ended from outside"):
            decoding.result(PATIENCE_S)
    assert list_decoders() == []


def test_each_open_file_has_a_process_and_few_are_kept(pool, photo):
    files = [pool.open_image(photo) for _ in range(guard.MOST_IDLE + 2)]
    assert len(list_decoders()) == len(files)
    assert all(file.read().size == (30, 20) for file in files)
    files.clear()
    assert len(list_decoders()) == guard.MOST_IDLE


def test_threads_do_not_get_each_others_images(pool, tmp_path):
    for number in range(6):
        PillowImage.new("L", (10 + number, 5), number).save(tmp_path / f"{number}.png")
    barrier = threading.Barrier(6)

    def decode(number):
        barrier.wait(PATIENCE_S)
        return [pool.open_image(tmp_path / f"{number}.png").read_rgb8() for _ in range(20)]

    with ThreadPoolExecutor(6) as threads:
        for number, images in enumerate(threads.map(decode, range(6))):
            for image in images:
                np.testing.assert_array_equal(image, np.full((5, 10 + number, 3), number))


def test_a_process_gets_no_secrets_and_no_modules_of_the_folder(pool, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("TRINAS_AUTH", "user:secret")
    monkeypatch.chdir(tmp_path)
    for name in ("numpy", "json", "trinas"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(3)")
    assert_decodes(pool, photo)
    (pid,) = list_decoders()
    with open(f"/proc/{pid}/environ", "rb") as environment:  # noqa: PTH123
        assert b"secret" not in environment.read()


def test_names_may_be_relative_and_of_any_bytes(pool, photo, tmp_path, monkeypatch):
    pool.start()
    (tmp_path / "other").mkdir()
    name = os.fsdecode(b"caf\xe9 \n.png")
    photo.rename(tmp_path / "other" / name)
    monkeypatch.chdir(tmp_path / "other")
    assert pool.open_image(name).read().size == (30, 20)


HEADER = {"width": 30, "height": 20, "has_alpha": False, "channels": 3, "jpeg_quality": None}
IMAGE = {
    "height": 20, "width": 30, "channels": 3, "depth": 8, "icc_bytes": None, "exif_bytes": None, "xmp_bytes": None,
    "dpi": None, "is_lossless_webp": False, "notes": [],
}  # fmt: skip


def answer(**values):
    text = json.dumps(values).encode()
    return struct.pack(">I", len(text)) + text


@pytest.mark.parametrize(
    "answers",
    [
        [b"\xff\xff\xff\xff"],
        [b"\0\0\0\3{,}"],
        [answer()],
        [answer(header={**HEADER, "width": "wide"})],
        [answer(header={**HEADER, "width": 10**12})],
        [answer(header={**HEADER, "channels": 5000})],
        [answer(image=IMAGE)],
        [answer(header=HEADER), answer(header=HEADER)],
        [answer(header=HEADER), answer(image={**IMAGE, "width": 31})],
        [answer(header=HEADER), answer(image={**IMAGE, "depth": 64})],
        [answer(header=HEADER), answer(image={**IMAGE, "exif_bytes": 1 << 40})],
        [answer(header=HEADER), answer(image={**IMAGE, "xmp_bytes": -1})],
    ],
)
def test_a_process_that_was_taken_over_is_not_believed(pool, photo, monkeypatch, answers):
    code = (
        f"import sys\nfor answer in {[answer(), *answers]}:\n    sys.stdout.buffer.write(answer)\n"
        "    sys.stdout.flush()\n    sys.stdin.readline()\nsys.stdin.read()"
    )
    monkeypatch.setattr(guard, "_CODE", "# decoder_process\n" + code)
    with pytest.raises(ImageError, match="its decoder answers nonsense; the file may be hostile"):
        pool.open_image(photo).read()
    monkeypatch.undo()
    assert_decodes(pool, photo)


def test_a_decoder_that_cannot_be_started_is_named(pool, photo, monkeypatch):
    monkeypatch.setattr(guard, "_CODE", "raise SystemExit(3)")
    with pytest.raises(ImageError, match=r"photo.png: its decoder cannot be started \(exit code 3\)"):
        pool.open_image(photo)
