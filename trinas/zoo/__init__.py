"""Models: networks with weights and what is known about them, as folders, bundled, on the Hub, as ONNX.

Read `record` first (what config.json says), then `bundled` (names and defaults) and `folder` (load and save); then
`card` (the README of a model), `hub` (download and upload) and `onnx`.
"""
