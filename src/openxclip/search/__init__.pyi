from .contact_sheet import write_contact_sheet as write_contact_sheet
from .duplicates import Duplicate as Duplicate
from .duplicates import DuplicateGroup as DuplicateGroup
from .index import VideoIndex as VideoIndex
from .previews import thumbnail as thumbnail
from .results import Added as Added
from .results import Hit as Hit
from .schema import IndexInfo as IndexInfo
