"""Train a model on videos as a recipe says (the paper's settings: Ni et al., ECCV 2022, section 4).

`__init__.pyi` lists the public names. Each is imported when it is first used, because most need the extra `train`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
