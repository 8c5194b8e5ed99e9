"""Figures, one per file: each takes a table and axes, and returns the axes."""

from .against_particles import against_particles as against_particles
from .bias_variance_cost import bias_variance_cost as bias_variance_cost
from .calibration import calibration as calibration
from .codes import codes as codes
from .comparison_figure import comparison_figure as comparison_figure
from .diagnosis_figure import diagnosis_figure as diagnosis_figure
from .gradient_histograms import gradient_histograms as gradient_histograms
from .gradient_variance import gradient_variance as gradient_variance
from .history import history as history
from .images import images as images
from .latent_figure import latent_figure as latent_figure
from .noise_split import noise_split as noise_split
from .objectives import objectives as objectives
from .over import over as over
from .prediction import prediction as prediction
from .race import race as race
from .recommendation import recommendation as recommendation
from .restarts import restarts as restarts
from .variance_bars import variance_bars as variance_bars
from .variance_near_optimum import variance_near_optimum as variance_near_optimum
from .variance_time import variance_time as variance_time
