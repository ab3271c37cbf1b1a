"""The bundled models: one folder each, read by `trinas.store`."""
