"""Train a network: images, degradations, the optimiser, the loop, and metrics of the result.

Read `loop` first: it trains a `run`, step by step (`step`), and saves it (`state`). A `teacher` makes targets. Images
come from `data`, which uses `degrade` and `synthetic`; `datasets` downloads public ones. `muon` is the optimiser,
`metrics` has PSNR and SSIM.
"""
