"""Search many videos for the moments that are most similar to a sentence or to another video.

X-CLIP's prompts make a text's features depend on the video (arXiv 2208.02816, §3.3), so a table of embeddings can't
give the score. A search has two stages: the plain text finds candidates among the embeddings, and only these are scored
with prompts, which are made from patch features that the index stores.

`index` has the public class. `opening` opens an index with its model, `indexer` encodes files and writes them,
`searching` searches, `duplicates` finds copies, and `store` reads and writes the tables.

`__init__.pyi` lists the public names. Each is imported when it is first used, so results load without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
