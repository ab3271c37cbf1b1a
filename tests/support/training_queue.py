"""A short queue of trainings, for the tests of it and for the processes that they start."""

from dataclasses import replace

import train_zoo

from trinas.config import TrainConfig

CONFIG = TrainConfig(
    steps=60, batch_size=4, patch_px=12, warmup_steps=2, validate_every=10, device="cpu", precision="fp32"
)
TASK = train_zoo.Task("first", 2, train_zoo.build_chain(2, 8, 2), ("t91",), (CONFIG, replace(CONFIG, l2_share=1.0)))
ENDLESS_TASK = replace(TASK, stages=(replace(CONFIG, steps=10**6),))
