"""Find when something happens in videos, from words.

`finder` scores labels in the windows of videos, each against neutral texts, and `indexed` in the windows of an index;
`segments` turns the scores over time into segments; a `Timeline` holds both.

`__init__.pyi` lists the public names. Each is imported when it is first used, so results load without PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
