"""The list of images that the trainings of the bundled models hold out."""

from pathlib import Path

import bundle
import pytest
import train_zoo
import validation
from PIL import Image as PillowImage

from trinas.errors import DataError
from trinas.training.data import compute_digest, crop_centres, fingerprint, generate_images, split
from trinas.zoo.record import TrainingRecord


def test_the_list_is_of_single_crops_and_of_the_folders_that_are_learnt_from():
    listed = validation.read_validation_list()
    names = [Path(name) for _, name in listed.values()]
    assert [group for group, _ in listed.values()] == ["old"] * 24 + ["new"] * 24
    assert {name.parent.name for name in names} <= set(train_zoo.PHOTOGRAPHS)
    assert len({validation.find_photograph(name) for name in names}) == len(names)


def test_the_list_holds_the_images_that_every_training_held_out(data_dir):
    before = ("bsds400", "div2k_small", "photos_cc0")
    _, held_out = split(bundle.load_images(data_dir, before))
    groups = validation.load_groups(data_dir)
    assert {image.digest for image in groups["old"]} == {image.digest for image in held_out}
    assert all(image.path.parent.name == "photos_free" for image in groups["new"])


def test_no_photograph_is_learnt_from_and_validated_on(data_dir):
    images = bundle.load_images(data_dir, train_zoo.PHOTOGRAPHS)
    learning, held_out = validation.split_by_photograph(images)
    apart = [{validation.find_photograph(image.path) for image in part} for part in (learning, held_out)]
    assert not apart[0] & apart[1]
    assert len(held_out) == 48
    left_out = set(images_by_digest(images)) - set(images_by_digest([*learning, *held_out]))
    assert {validation.find_photograph(images_by_digest(images)[digest].path) for digest in left_out} <= apart[1]


def images_by_digest(images):
    return {image.digest: image for image in images}


def test_crops_of_a_photograph_have_its_name():
    def find(name):
        return validation.find_photograph(Path(name))

    assert find("photos_cc0/blue-lake_0_384.webp") == find("photos_cc0/blue-lake_768_0.webp")
    assert find("photos_free/mei_00b9bcae_0.webp") == find("photos_free/mei_00b9bcae_1.webp")
    assert find("photos_free/mei_00b9bcae_0.webp") != find("photos_free/mei_1f455c3b_0.webp")
    assert find("bsds400/100_0.jpg") != find("bsds400/100_1.jpg")


def test_other_images_are_split_as_every_training_splits_them():
    images = generate_images(12, 24, seed=0)
    assert validation.split_by_photograph(images) == split(images)


def test_a_listed_image_that_is_missing_or_other_is_named(tmp_path, monkeypatch):
    (image,) = crop_centres(generate_images(1, 24, seed=0), 16)
    (tmp_path / "train/t91").mkdir(parents=True)
    PillowImage.fromarray(image.pixels).save(tmp_path / "train/t91/1.png")
    (tmp_path / "list.txt").write_text(f"old {compute_digest(image.pixels)} t91/1.png\n")
    monkeypatch.setattr(validation, "VALIDATION_LIST", tmp_path / "list.txt")
    assert [found.digest for found in validation.load_groups(tmp_path)["old"]] == [image.digest]
    (tmp_path / "list.txt").write_text(f"old {'0' * 64} t91/1.png\n")
    with pytest.raises(DataError, match=r"t91/1\.png: is missing, or is not the image"):
        validation.load_groups(tmp_path)


def test_a_network_is_measured_on_the_images_that_its_training_held_out(monkeypatch, tmp_path):
    images = generate_images(12, 24, seed=0)
    listed = images[5]
    (tmp_path / "list.txt").write_text(f"old {listed.digest} t91/1.png\n")
    monkeypatch.setattr(validation, "VALIDATION_LIST", tmp_path / "list.txt")
    learning, held_out = validation.split_by_photograph(images)
    by_list = TrainingRecord(data_sha256=fingerprint(learning, held_out))
    assert bundle.list_held_out(images, by_list) == [listed]
    assert bundle.list_held_out(images, TrainingRecord(data_sha256=fingerprint(images))) == split(images)[1]
