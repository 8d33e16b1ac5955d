"""`embed`: the features of many videos in one file."""

from openxclip.features.embedding import Embedding, embed

__all__ = ["Embedding", "embed"]
