from .information import info as info
from .profiling import Cost as Cost
from .profiling import Profile as Profile
from .profiling import profile as profile
