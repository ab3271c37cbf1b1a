"""Models: networks with weights, and what is known about them. As folders, bundled, on the Hub, and as ONNX files.

Read it in this order:

- `record`: the content of config.json
- `bundled`: the bundled models, and how a name becomes a folder
- `folder`: load and save a model folder; pull and push it
- `card`: the README of a model
- `hub`: download from the Hugging Face Hub and upload to it
- `onnx`: write a model as an ONNX file
"""
