"""Enlarge images with trained networks.

Read `tiled` (one network, tile by tile), `cascade` (several, to any size) with `sizes`, then `batch` (folders),
`estimate` (time and memory beforehand) and `compare` (several models side by side).
"""
