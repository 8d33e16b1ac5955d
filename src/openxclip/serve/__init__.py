"""`openxclip serve`: an HTTP API and a page over the models, the index and jobs."""
