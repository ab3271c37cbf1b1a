"""Short trainings and searches, and how they are stopped."""

import threading

from trinas.config import Budgets, SearchConfig, TrainConfig

SEARCH_CONFIG = SearchConfig(
    Budgets(params=3000),
    steps=(3, 17, 4),
    batch_size=2,
    patch_px=8,
    device="cpu",
    precision="fp32",
)

TRAIN_CONFIG = TrainConfig(
    steps=12,
    batch_size=4,
    patch_px=12,
    warmup_steps=2,
    validate_every=4,
    l2_share=0.3,
    device="cpu",
    precision="fp32",
)


class StopAfter(threading.Event):
    """Asked once per step, and once per image that a teacher enlarges; set from the given step on."""

    def __init__(self, steps):
        super().__init__()
        self.steps_left = steps

    def is_set(self):
        self.steps_left -= 1
        return self.steps_left <= 0
