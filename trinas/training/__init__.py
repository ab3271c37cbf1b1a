"""Train a network: images, degradations, the optimiser, the loop, and metrics of the result.

Read `loop` first: it trains a `run`, step by step. It uses

- `data`: training images and patches, made by `degrade` (low-resolution images) and `synthetic` (generated images)
- `step`: one optimiser step, with the loss; `muon` is the optimiser
- `teacher`: a model to imitate, and its targets; `targets` keeps those of other programs in a folder
- `rescale`: the first step from one scale to another
- `metrics`: PSNR and SSIM
- `state`: the folder of a run, its state and its lock

`datasets` downloads public training images.
"""
