"""Ask a server of openxclip from Python, with the names and result classes of the library.

`requesting` says what is sent and how an answer is read, once for both clients: each operation is a generator that
yields requests and gets their answers. `blocking` and `awaiting` send them, and `answers` makes the results.
`__init__.pyi` lists the public names. Each is imported when it is first used. No module here imports PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
