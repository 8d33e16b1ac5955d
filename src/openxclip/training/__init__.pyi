from .job import TrainingResult as TrainingResult
from .job import plan_training as plan_training
from .job import train as train
from .loop import StepReport as StepReport
from .validation import EvalReport as EvalReport
