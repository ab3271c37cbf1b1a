"""Pages and drawings that are made from the records of trainings and searches.

Read `pages` (the report of a search) first, then `diagrams` (networks and mixtures as bars) and `charts` (axes, ticks
and curves). `templates/` holds the HTML.
"""
