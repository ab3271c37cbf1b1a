"""Train a network: images, degradations, the optimiser, the loop, and how good the result is.

Read `loop` first; it uses `data` (patches), `degrade`, `synthetic` and `datasets` (where images come from), `muon` (the
optimiser), `metrics` (PSNR and SSIM) and `state` (what resumes).
"""
