"""Ask a server of openxclip from Python: `Client` and `AsyncClient`."""
