"""Progress bars for terminals, notebooks and logs, and Ctrl-C between steps."""

from .bar import Bar as Bar
from .bar import bar as bar
from .stopping import CALLBACK as CALLBACK
from .stopping import CTRL_C as CTRL_C
from .stopping import WHO as WHO
from .stopping import Stop as Stop
from .stopping import between_steps as between_steps
from .stopping import stops as stops
from .stopping import terminated as terminated
from .terminal import Terminal as Terminal
