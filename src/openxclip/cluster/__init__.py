"""Work on many machines: fill an index, embed or classify with a Ray cluster, or fill an index from a job array.

`indexing`, `embedding` and `classifying` have the functions for a cluster, `parts` those for job arrays. `connecting`
finds the machines, `pool` starts actors on them, `running` hands out chunks of videos and tries again what ended a
worker, `collecting` commits what workers return, and `reporting` counts. `actors` and `pipelines` run in the workers.

`__init__.pyi` lists the public names. Each is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
