"""`info` describes a file, folder or model, and `profile` counts the cost of a model.

`__init__.pyi` lists the public names. Each is imported when it is first used: `profile` needs no video libraries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
