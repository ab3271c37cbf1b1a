"""The web page.

Read it in this order:

- `server` builds the page from its tabs and serves it. `theme` and page.css say how it looks.
- Requests come through `connections` (the HTTP server) and the `gate`, which knows the `hosts` of the page and the
  `allowance` of each address. `log` limits what is written.
- `backend` is shared by all tabs. It has the `limits` of a visitor, `uploads` and `archives` (visitors' files), the
  `catalogue` (models and their speed) and the `runner` (previews, upscaling). `api` offers the same to programs.
- `components` are parts that several tabs show. `messages` turns errors into text for visitors.
- Each tab is a class: `tab_upscale` (with `previews`), `tab_batch`, `tab_compare` (with `comparison`), `tab_models`
  (with `trade_off`) and `tab_search` (with `searches`). The modules in brackets make what the tab shows.
"""
