from .indexing import index_on_cluster as index_on_cluster
from .parts import commit_parts as commit_parts
from .parts import index_here as index_here
from .parts import index_part as index_part
from .placing import Layout as Layout
from .reporting import Report as Report
from .results import BulkResult as BulkResult
from .settings import IndexSettings as IndexSettings
