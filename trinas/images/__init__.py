"""Image files and what they hold: pixels, colours, metadata.

Read `formats` (the file formats), `image` (a decoded image), then `read` and `write` (files to images and back). `read`
asks `pillow`, `png` and `tiff`, which hand on what `stored` describes. All of them ask `metadata` (with `exif` and
`xmp`), `colour` and `jpeg_quality`.
"""
