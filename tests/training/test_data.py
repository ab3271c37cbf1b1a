import threading

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from support.images import generated_photograph
from trinas.errors import DataError
from trinas.training.data import Patches, fingerprint, load_photographs, make_pairs, split

CPU = torch.device("cpu")


@pytest.fixture
def photo_dir(tmp_path):
    """Twelve images of different sizes, one of them there twice."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for seed in range(12):
        levels = generated_photograph(40 + seed, 50 - seed, seed)
        PillowImage.fromarray(levels).save(folder / ("more" if seed % 2 else ".") / f"{seed}.png")
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    return folder


def test_images_are_known_by_their_pixels(photo_dir, tmp_path):
    images = load_photographs([photo_dir])
    assert len(images) == 12, "sub-folders are read, copies are taken once"
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, image in enumerate(images):
        PillowImage.fromarray(image.pixels).save(renamed / f"{99 - number}.png")
    again = load_photographs([renamed])
    assert [image.digest for image in again] == [image.digest for image in images]
    assert fingerprint(again) == fingerprint(images)
    assert fingerprint(again[:-1]) != fingerprint(images)


def test_fingerprint_and_split_do_not_depend_on_the_order(photo_dir):
    images = load_photographs([photo_dir])
    mixed = images[5:] + images[4::-1]
    assert fingerprint(mixed) == fingerprint(images)
    assert [[image.digest for image in part] for part in split(mixed)] == [
        [image.digest for image in images[1:]],
        [image.digest for image in images[:1]],
    ], "the smallest digests are held out"


def test_about_a_tenth_is_held_out_and_never_learned_from(photo_dir):
    images = load_photographs([photo_dir])
    learning, held_out = split(images)
    assert (len(learning), len(held_out)) == (11, 1)
    assert {image.digest for image in learning}.isdisjoint(image.digest for image in held_out)
    with pytest.raises(DataError, match="too few"):
        split(images[:1])


def test_folders_without_images_and_damaged_images_are_named(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}: no images here"):
        load_photographs([tmp_path])
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"broken\.jpg: the file is empty; remove it"):
        load_photographs([tmp_path])


def test_images_smaller_than_a_patch_are_named(photo_dir):
    with pytest.raises(DataError, match=r"\.png: \d+x\d+ is smaller than a training patch of 48"):
        Patches(load_photographs([photo_dir]), 4, 12, CPU)


@pytest.mark.parametrize("scale", [2, 3])
def test_every_patch_is_cut_from_one_place_of_both_resolutions(photo_dir, scale):
    """Each pair is found, in one of its eight orientations, at matching places of an image pair."""
    images = load_photographs([photo_dir])
    side = 6
    patches = Patches(images, scale, side, CPU)
    windows = {}
    for low, high in make_pairs(images, scale):
        for row in range(low.shape[0] - side + 1):
            for column in range(low.shape[1] - side + 1):
                low_window = low[row : row + side, column : column + side]
                top, left = row * scale, column * scale
                high_window = high[top : top + side * scale, left : left + side * scale]
                windows[low_window.tobytes()] = high_window
    orientations = set()
    low, high = patches.batch(seed=0, step=0, size=64)
    assert low.shape == (64, 3, side, side)
    assert high.shape == (64, 3, side * scale, side * scale)
    for low_patch, high_patch in zip(to_bytes(low), to_bytes(high), strict=True):
        matches = [
            turn
            for turn in range(8)
            if (window := windows.get(turned(low_patch, turn).tobytes())) is not None
            and np.array_equal(turned(high_patch, turn), window)
        ]
        assert matches
        orientations.add(matches[0])
    assert orientations == set(range(8))


def test_each_variant_of_a_photograph_is_degraded_in_its_own_way_on_every_call(photo_dir):
    images = load_photographs([photo_dir])
    clean, pairs = make_pairs(images, 2), make_pairs(images, 2, variants=3)
    assert len(pairs) == 3 * len(clean)
    for number, (low, high) in enumerate(pairs):
        original_low, original_high = clean[number // 3]
        np.testing.assert_array_equal(high, original_high)
        assert low.shape == original_low.shape
    assert len({low.tobytes() for low, _ in pairs}) == len(pairs)
    again = make_pairs(images, 2, variants=3)
    assert all(np.array_equal(low, twin) for (low, _), (twin, _) in zip(pairs, again, strict=True))
    assert len(Patches(images, 2, 8, CPU, variants=3).sizes) == len(pairs)


def to_bytes(batch):
    return (batch * 255).round().byte().permute(0, 2, 3, 1).numpy()


def turned(patch, turn):
    patch = np.rot90(patch, turn % 4)
    return np.ascontiguousarray(patch[:, ::-1] if turn >= 4 else patch)


def test_a_teacher_s_pictures_are_learnt_from_where_they_are_asked_for(photo_dir):
    """The teacher here gives each pixel's value, less one level, to the whole square that it becomes."""
    patches = Patches(load_photographs([photo_dir]), 2, 8, CPU)
    assert patches.precompute_targets(lambda low: np.maximum(low, 1).repeat(2, 0).repeat(2, 1) - 1, threading.Event())
    low, taught = patches.batch(3, 50, 4)
    again, real = patches.batch(3, 50, 4, from_teacher=False)
    untaught = Patches(load_photographs([photo_dir]), 2, 8, CPU).batch(3, 50, 4)
    assert torch.equal(low, again)
    assert torch.equal((low * 255).clamp(min=1) - 1, taught[:, :, ::2, 1::2] * 255)
    assert torch.equal(real, untaught[1])
    assert not torch.equal(real, taught)


def test_a_teacher_gets_every_image_once_in_order(photo_dir):
    """And where it has no answer, the photograph stays what is learnt."""
    images, seen = load_photographs([photo_dir]), []
    patches = Patches(images, 2, 8, CPU)
    assert patches.precompute_targets(lambda low: seen.append(low), threading.Event())
    assert len(seen) == len(images)
    assert all(np.array_equal(low, given) for (low, _), given in zip(make_pairs(images, 2), seen, strict=True))
    assert torch.equal(patches.batch(3, 50, 4)[1], patches.batch(3, 50, 4, from_teacher=False)[1])


def test_a_batch_is_a_function_of_seed_and_step(photo_dir):
    patches = Patches(load_photographs([photo_dir]), 2, 8, CPU)
    again = Patches(load_photographs([photo_dir]), 2, 8, CPU)
    for first, second in zip(patches.batch(3, 50, 4), again.batch(3, 50, 4), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(patches.batch(3, 50, 4)[0], patches.batch(3, 51, 4)[0])
    assert not torch.equal(patches.batch(3, 50, 4)[0], patches.batch(4, 50, 4)[0])
