"""openxclip: recognise, search and learn what happens in video from words (X-CLIP, arXiv 2208.02816).

`__init__.pyi` lists the public names. Each is imported when it is first used, so `import openxclip` is fast.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
