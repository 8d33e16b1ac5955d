"""Correct what the model says about windows of the collection, and learn from the corrections.

`labels` keeps the corrections as a list that `openxclip train` and `openxclip eval` take. `proposals` chooses the windows
to correct next, `head` learns from the corrected ones, `windows` reads both from the index in the model's process, and
`routes` is the HTTP API. `labels` and `routes` need no PyTorch.
"""
