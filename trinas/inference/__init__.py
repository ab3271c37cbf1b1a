"""Upscale images: with one model tile by tile, with several to any size, whole folders at once.

Read it in this order:

- `tensors`: pure functions on tensors; `tiles`: cut an image into tiles
- `tiled`: upscale an image with one model
- `sizes` and `cascade`: upscale an image to any size with one or more models
- `plan`, `job` and `batch`: upscale many files
- `estimate`: time and memory of a batch, before it starts
- `compare`: several models side by side
"""
