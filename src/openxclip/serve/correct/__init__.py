"""Correct what the model says about windows of the collection, and learn from the corrections.

`labels` keeps the corrections as a list that `openxclip train` and `openxclip eval` take. `proposals` chooses windows
to correct next, and `head` learns from the corrected ones; `windows` does both in the model's process, with the index.
`routes` is the HTTP API. `labels` and `routes` need no PyTorch.
"""
