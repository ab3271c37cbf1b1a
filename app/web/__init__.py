"""The web page: `server` builds it, one module a tab, `service` does the work behind it."""
