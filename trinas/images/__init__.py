"""Image files and what is in them: pixels, colours, metadata.

Read `formats` (which files there are), then `read_write` (files to tensors and back) and what it asks: `metadata`
and `exif`, `colour`, `tiff`, `jpeg_quality`.
"""
