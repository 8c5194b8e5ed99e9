"""How a schedule of phases ended, in words."""

from __future__ import annotations

from typing import Any

from ..progress import CTRL_C
from ..summaries.card import counted, rounded
from .convergence import Convergence, in_nats


def ending(schedule: Any) -> Convergence:
    """Whether a schedule converged, and why it ended."""
    rows = schedule._tolerance.rows
    after = f"after {counted(schedule._taken, 'step')} in {rounded(schedule._seconds, 2)} s"
    where = " on the held-out data" if schedule._held_out else ""
    bound = f"a further phase would gain less than {in_nats(max(schedule._expected, schedule._tolerance.nats), rows)}{where}"
    converged = schedule._converged
    verdict: bool | None = converged
    if schedule._interrupted:
        verdict, reason = None, f"stopped by {schedule._asked_to_stop.by or CTRL_C} {after}"
    elif converged and schedule._tolerance.network and not schedule._held_out and schedule._creeping:
        verdict = None
        reason = f"settled {after}: {bound}; the first rate still gained {in_nats(schedule._creeps, rows)} a window"
    elif converged:
        reason = f"converged {after}: {bound}"
    elif not schedule._over and schedule._steady:
        verdict, reason = None, f"lost in noise {after}: {bound}"
    else:
        used = (
            "max_steps"
            if schedule._taken >= schedule._budget.steps
            else "max_seconds"
            if schedule._over
            else "small rates"
        )
        reason = f"not converged {after}: {used} used up"
        if schedule._gain > 2 * schedule._gain_se:
            reason += f", still gaining about {in_nats(1000 * schedule._gain / schedule._span, rows)} in 1,000 steps"
    return Convergence(verdict, reason, tuple(schedule._phases), schedule._expected, schedule._tolerance.nats)
