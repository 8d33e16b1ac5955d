"""Neutral texts: what a label must fit better than, for its score to mean something alone."""

BACKGROUND_TEXTS = ("a video", "a video of something", "a scene", "an empty scene", "nothing happens")
