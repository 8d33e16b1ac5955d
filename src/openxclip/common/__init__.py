"""Small helpers for all rooms. Of openxclip they import only its errors."""
