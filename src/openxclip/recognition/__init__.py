"""Recognise what happens in a video, by labels in words.

`__init__.pyi` lists the public names. Each is imported when it is first used, so results load without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
