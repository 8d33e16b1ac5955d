"""The processes behind the server: the model's, the one for frames and previews, and those of jobs."""
