"""The models on offer: names, loading, speed."""

import shutil
import threading

import pytest
import torch
from trinas_app.web import catalogue as catalogue_module
from trinas_app.web.catalogue import Catalogue

from trinas.errors import ModelError
from trinas.images.image import Image
from trinas.zoo.folder import load_model, save_model


@pytest.fixture
def catalogue(monkeypatch):
    monkeypatch.setattr(catalogue_module, "TIMED_PX", 16)
    return Catalogue("cpu")


@pytest.mark.parametrize("name", ["/etc", "../models/trinas-xs-x4", "nothing"])
def test_only_models_on_offer_can_be_named(catalogue, name):
    with pytest.raises(ModelError, match="no such model"):
        catalogue.cascade(name)


def test_an_added_model_is_on_offer_under_a_name_of_its_own(catalogue, tiny_model_dir):
    name = catalogue.add(str(tiny_model_dir), "folder")
    assert catalogue.add(str(tiny_model_dir), "folder") == name == "tiny-model"
    assert catalogue.offers()[name].source == "folder"
    assert catalogue.find_name(catalogue.locate(name)) == name
    other = tiny_model_dir.with_name("copy")
    shutil.copytree(tiny_model_dir, other)
    assert catalogue.add(str(other), "folder") == "tiny-model-2"


def test_a_model_that_is_added_again_has_its_new_weights(catalogue, tiny_model_dir):
    image = Image(torch.rand(3, 12, 10))
    name = catalogue.add(str(tiny_model_dir), "folder")
    before = catalogue.upscaler(name)(image).pixels
    model = load_model(str(tiny_model_dir))
    for tensor in model.network.state_dict().values():
        tensor.mul_(0.5)
    save_model(tiny_model_dir, model.network, model.config)
    assert catalogue.add(str(tiny_model_dir), "folder") == name
    assert not torch.equal(catalogue.upscaler(name)(image).pixels, before)


def test_a_model_is_loaded_once(catalogue):
    assert catalogue.upscaler("trinas-xs-x2") is catalogue.upscaler("trinas-xs-x2")


def test_a_model_whose_folder_is_gone_is_no_longer_on_offer(catalogue, tiny_model_dir):
    name = catalogue.add(str(tiny_model_dir), "folder")
    shutil.rmtree(tiny_model_dir)
    assert name not in catalogue.offers()
    assert "trinas-xs-x2" in catalogue.offers()


def test_models_are_listed_by_scale(catalogue):
    offers = catalogue.offers()
    names = [name for scale in (2, 3, 4) for name in catalogue.list_names(scale)]
    assert names == list(offers)
    assert all(offers[name].config.spec.scale == 3 for name in catalogue.list_names(3))


def test_all_models_are_measured_unless_the_server_ends(catalogue):
    ended = threading.Event()
    ended.set()
    catalogue.measure_all(ended)
    assert not catalogue.speeds
    ended.clear()
    catalogue.measure_all(ended)
    assert catalogue.speeds.keys() == catalogue.offers().keys()
    assert all(seconds > 0 for seconds in catalogue.speeds.values())
    assert catalogue.measured.is_set()
