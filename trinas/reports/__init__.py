"""Pages and drawings for people, made from what trainings and searches recorded.

Read `pages` (the report of a search), then `charts`; `templates/` holds the HTML.
"""
