"""One figure per file: a table and an axes in, the axes out."""

from .comparison_figure import comparison_figure as comparison_figure
from .gradient_variance import gradient_variance as gradient_variance
from .history import history as history
from .images import images as images
from .noise_split import noise_split as noise_split
from .race import race as race
from .restarts import restarts as restarts
from .variance_time import variance_time as variance_time
