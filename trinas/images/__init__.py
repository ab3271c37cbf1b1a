"""Image files and what they hold: pixels, colours, metadata.

Read it in this order:

- `formats`: the file formats and what they can hold
- `image`: a decoded image; `colour`: colour profiles
- `read`: files to images, with `decode`, which needs no torch. It calls the decoders `pillow` (with `png`) and `tiff`.
  `stored` has what a decoder returns. `jpeg`, `webp` and `tiff_directory` check how a file is built beforehand
- `guard`: the same in another process (`decoder_process`), with limits on time and memory
- `write`: images to files
- `metadata`: EXIF, XMP and resolution, with `exif`, `exif_tags` and `xmp`; `jpeg_quality`: how strongly a JPEG was
  compressed
"""
