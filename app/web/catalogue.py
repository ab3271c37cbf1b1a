"""The models that can be chosen, their speed on this machine, and the loaded networks."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import torch

from trinas.config import DEFAULT_PRESET, PRESETS
from trinas.errors import ModelError, TrinasError
from trinas.images.image import Image
from trinas.inference.cascade import CascadeUpscaler
from trinas.inference.tiled import TiledUpscaler
from trinas.networks.cost import Cost, compute_cost
from trinas.timer import Timer
from trinas.zoo.bundled import list_bundled_models
from trinas.zoo.folder import load_config, load_model
from trinas.zoo.record import UNSPECIFIED, ModelConfig

from .uploads import number_names

TIMED_PX, TIMED_RUNS = 256, 9
"""Side of the image on which a model's speed is measured, and the largest number of runs. The fastest run counts."""

SETTLED_RUNS, SETTLED = 3, 1.1
"""Measuring ends when so many runs are within this factor of the fastest one."""

MOST_ADDED = 100
"""Models that visitors can add until the server is started again."""

MOST_LOADED = 32
"""Upscalers kept in memory. There is room for all bundled models; each has a few megabytes."""

TIERS = {"xs": "very small", "s": "small", "m": "medium", "l": "large"}
"""Part of a bundled name, such as xs in trinas-xs-x4 -> the size in words."""


@dataclass(frozen=True)
class Offer:
    """A model that can be chosen."""

    config: ModelConfig
    source: str
    """Where it comes from: bundled, searched, folder or Hub."""

    @property
    def cost(self) -> Cost:
        """The cost of its architecture."""
        return compute_cost(self.config.spec)

    @property
    def licence(self) -> str:
        """Its licence in words."""
        return "licence unspecified" if self.config.licence == UNSPECIFIED else self.config.licence

    @property
    def sort_key(self) -> tuple[int, bool, int]:
        """Scale, purpose and size, by which lists are sorted."""
        return self.config.spec.scale, self.config.restores, self.cost.params

    @property
    def tier(self) -> str:
        """The size of a bundled model in words; the source of any other model."""
        return TIERS.get(self.config.name.split("-")[1], "") if self.source == "bundled" else self.source


class Catalogue:
    """All models on offer: the bundled models and the added ones.

    Attributes:
        measured: set once `measure_all` has ended.
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._added: dict[str, tuple[str, str]] = {}  # name -> model folder, source
        self._load = lru_cache(maxsize=MOST_LOADED)(CascadeUpscaler)
        self._speeds: dict[str, float] = {}
        self._timing = threading.Lock()
        self.measured = threading.Event()

    def offers(self) -> dict[str, Offer]:
        """Return all models on offer by name, sorted by scale, purpose and size."""
        found = {name: Offer(load_config(name), "bundled") for name in list_bundled_models()}
        for name, (folder, source) in list(self._added.items()):
            with suppress(ModelError):  # the folder was deleted meanwhile
                found[name] = Offer(load_config(folder), source)
        return dict(sorted(found.items(), key=lambda item: item[1].sort_key))

    def list_names(self, scale: int) -> list[str]:
        """Return the names of the models of one scale."""
        return [name for name, offer in self.offers().items() if offer.config.spec.scale == scale]

    def add(self, folder: str, source: str, name: str | None = None) -> str:
        """Offer one more model and return the name that it gets.

        Args:
            folder: of the model. The files of a known folder are read again.
            source: as `Offer.source`.
            name: the name that it should have. None: the name in its config.json.
        Raises:
            ModelError: there is no model, its files are damaged, or there are too many added models.
        """
        if len(self._added) >= MOST_ADDED and folder not in {other for other, _ in self._added.values()}:
            raise ModelError(f"{MOST_ADDED} models were added already; start the server again to add others")
        model = load_model(folder)
        taken = {*list_bundled_models(), *self._added}
        known = next((name for name, (other, _) in self._added.items() if other == folder), None)
        if known is None:
            known = next(free for free in number_names(name or model.config.name) if free not in taken)
        self._added[known] = (folder, source)
        self._load.cache_clear()
        self._speeds.pop(known, None)
        return known

    def remove(self, name: str) -> None:
        """Take an added model off the offer, because it has turned out to be broken."""
        self._added.pop(name, None)

    def find_name(self, model: str) -> str:
        """Return the name on offer of an added model's folder. The name of a bundled model is returned unchanged."""
        return next((name for name, (other, _) in self._added.items() if other == model), model)

    def locate(self, name: str) -> str:
        """Return the name or folder that `load_model` takes for a name on offer.

        Raises:
            ModelError: the name is not on offer. Visitors must not be able to try paths of this machine.
        """
        if name in self._added:
            return self._added[name][0]
        if name in list_bundled_models():
            return name
        raise ModelError(f"{name}: no such model; there are {', '.join(self.offers())}")

    def cascade(self, name: str = "", preset: str = DEFAULT_PRESET) -> CascadeUpscaler:
        """Return the upscaler of one model, or one that chooses among the bundled models. It is loaded once and kept.

        Args:
            name: on offer; empty: bundled models are chosen.
            preset: fast, balanced or best; which bundled models are chosen.
        Raises:
            ModelError: there is no such model, or its config.json is damaged; or there is no such preset.
        """
        if preset not in PRESETS:
            raise ModelError(f"{preset!r} is no preset; there are {', '.join(PRESETS)}")
        return self._load(self.locate(name) if name else None, self._device, preset=preset)

    def upscaler(self, name: str) -> TiledUpscaler:
        """Return the upscaler of one model at its own scale.

        Raises:
            ModelError: there is no such model, or its files are damaged.
        """
        return self.cascade(name).load_upscaler(self.locate(name))

    @property
    def speeds(self) -> dict[str, float]:
        """Seconds per output megapixel by name, for the models that are measured already."""
        return dict(self._speeds)

    def measure_all(self, ended: threading.Event) -> None:
        """Measure the speed of all models, the cheapest model first. Stop when `ended` is set."""
        try:
            offers = self.offers()
            for name in sorted(offers, key=lambda name: offers[name].cost.macs):
                if not ended.is_set():
                    with suppress(TrinasError):  # a model that cannot upscale says so when it is used
                        self.seconds_per_mp(name)
        finally:
            self.measured.set()

    def seconds_per_mp(self, name: str) -> float:
        """Return the seconds per output megapixel that a model takes on this machine. It is measured only once.

        Raises:
            ModelError: there is no such model, or its files are damaged.
            UpscaleError: it cannot upscale the image on which it is measured.
        """
        with self._timing:
            if name not in self._speeds:
                self._speeds[name] = _measure_seconds_per_mp(self.upscaler(name))
            return self._speeds[name]


def _measure_seconds_per_mp(upscaler: TiledUpscaler) -> float:
    noise = Image(torch.rand(3, TIMED_PX, TIMED_PX, generator=torch.Generator().manual_seed(0)))
    seconds: list[float] = []
    while len(seconds) < TIMED_RUNS and sum(run < SETTLED * min(seconds) for run in seconds) < SETTLED_RUNS:
        with Timer() as timer:
            upscaler(noise)
        seconds.append(timer.seconds)
    return min(seconds) / ((TIMED_PX * upscaler.scale) ** 2 / 1e6)
