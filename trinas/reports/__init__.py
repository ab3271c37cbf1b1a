"""Pages and drawings for people, made from the records of trainings and searches.

Read `pages` (the report of a search), then `diagrams` (networks and mixtures as bars) and `charts` (axes, ticks and
curves); `templates/` holds the HTML.
"""
