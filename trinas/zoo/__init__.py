"""Models: networks with weights and what is known of them, as folders, bundled, on the Hub, as ONNX.

Read `folder` first, then `card`, `hub` and `onnx`.
"""
