"""Recognise what happens in a video, by labels in words."""

from openxclip.recognition.background import BACKGROUND_TEXTS
from openxclip.recognition.classification import Classification, Classifier, LabelScore, classify, iter_classify

__all__ = ["BACKGROUND_TEXTS", "Classification", "Classifier", "LabelScore", "classify", "iter_classify"]
