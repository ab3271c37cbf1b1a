import numpy as np
from PIL import Image

from support.networks import busy_network
from trinas.search.record import SAMPLE_FILES
from trinas.search.sample import cut_samples, write_samples
from trinas.training.data import generate_images
from trinas.training.degrade import downscale


def test_samples_show_the_same_place_three_ways(tiny_spec, tmp_path):
    network = busy_network(tiny_spec)
    photo = generate_images(1, 160, seed=5)[0].pixels
    samples = cut_samples(network, downscale(photo, 2), photo)
    assert list(samples) == list(SAMPLE_FILES) == ["bicubic", "this network", "the original"]
    assert len({pixels.tobytes() for pixels in samples.values()}) == 3
    assert len({pixels.shape for pixels in samples.values()}) == 1
    write_samples(tmp_path, network, downscale(photo, 2), photo)
    for caption, name in SAMPLE_FILES.items():
        with Image.open(tmp_path / name) as image:
            assert np.array_equal(np.asarray(image), samples[caption])
