from .comparison import compare_files as compare_files
from .runs import evaluate_over as evaluate_over
from .runs import evaluate_recipe as evaluate_recipe
