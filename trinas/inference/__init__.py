"""Upscale images: with one model tile by tile, with several to any size, whole folders at once.

Read `tensors` (pure functions on tensors) and `tiles` first, then `tiled` (one model), `sizes` and `cascade` (any
size), then `plan`, `job` and `batch` (many files), and at last `estimate` (time and memory beforehand) and `compare`
(several models side by side).
"""
