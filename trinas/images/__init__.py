"""Image files and what they hold: pixels, colours, metadata.

Read it in this order:

- `formats`: the file formats and what they can hold
- `image`: a decoded image; `colour`: colour profiles
- `read`: files to images. It calls the decoders `pillow` (with `png`) and `tiff`. `stored` has what a decoder returns
- `write`: images to files
- `metadata`: EXIF, XMP and resolution, with `exif` and `xmp`; `jpeg_quality`: how strongly a JPEG was compressed
"""
