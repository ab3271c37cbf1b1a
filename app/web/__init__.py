"""The web page over the library.

Read it in this order:

- `server` serves the page: its configuration, its tabs, its life; `theme` and page.css say how it looks.
- `backend` holds what all tabs share: `limits` of a visitor, `uploads` (visitors' files, archives), `catalogue` (models
  and their speed) and `runner` (previews, upscaling). `api` offers the same to programs.
- `components` are parts that several tabs show; `messages` turns errors into text for visitors.
- `tab_upscale` with `previews`, `tab_batch`, `tab_compare` with `comparison`, `tab_models` with `trade_off`, and
  `tab_search` with `searches`: one class a tab, and beside it what the tab shows.
"""
