"""Small helpers that every room may use. They import nothing of openxclip but its errors, and no PyTorch at import."""
