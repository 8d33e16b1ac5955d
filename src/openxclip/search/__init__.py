"""Search: an index of many videos' windows, and the moments in it that a sentence or another video is like.

X-CLIP's prompts make a text's features depend on the video (arXiv 2208.02816, §3.3), so that a score can't be looked
up in a table of embeddings. Two stages do it: the plain text finds candidates among the embeddings, and these alone are
scored with their prompts, for which the index holds what the prompts are made from.
"""

from openxclip.search.duplicates import Duplicate, DuplicateGroup
from openxclip.search.index import VideoIndex
from openxclip.search.pictures import thumbnail
from openxclip.search.results import Added, Hit
from openxclip.search.sheet import write_contact_sheet

__all__ = ["Added", "Duplicate", "DuplicateGroup", "Hit", "VideoIndex", "thumbnail", "write_contact_sheet"]
