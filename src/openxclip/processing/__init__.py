"""Turn texts into token ids, and frames into pixel values."""

from openxclip.processing.batch import BatchEncoding
from openxclip.processing.processor import XCLIPProcessor
from openxclip.processing.tokenizer import CLIPTokenizer
from openxclip.processing.transforms import VideoProcessor

__all__ = ["BatchEncoding", "CLIPTokenizer", "VideoProcessor", "XCLIPProcessor"]
