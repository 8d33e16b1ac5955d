from .background import BACKGROUND_TEXTS as BACKGROUND_TEXTS
from .classification import Classifier as Classifier
from .classification import classify as classify
from .classification import iter_classify as iter_classify
from .results import Classification as Classification
from .results import LabelScore as LabelScore
