"""Evaluation by the paper's protocols (Ni et al., ECCV 2022, section 4): accuracy, retrieval, comparison, plots.

`__init__.pyi` lists the public names. Each is imported when it is first used, because recipes need the extra `train`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
