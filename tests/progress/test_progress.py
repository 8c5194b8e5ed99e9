"""How far a piece of work is: in a terminal, a notebook and a log, and at what price."""

from __future__ import annotations

import io
import math
import os
import pty
import re
import subprocess
import sys
import time

import pytest
import torch

import vbayes as vb
from vbayes.progress import Terminal, bar
from vbayes.progress.cell import Cell
from vbayes.progress.lines import LONGEST, Lines
from vbayes.progress.live import Live
from vbayes.progress.phase import Phase, clock

BAR = sys.modules["vbayes.progress.bar"]
PHASE = sys.modules["vbayes.progress.phase"]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, monkeypatch) -> None:
        self.now = 100.0
        for module in (BAR, PHASE):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def log(monkeypatch):
    """What a bar writes where standard error is no terminal."""
    written = io.StringIO()
    monkeypatch.setattr(BAR, "Terminal", lambda stderr: Terminal(file=written))
    return written


def test_a_log_has_a_line_now_and_then(log, monkeypatch):
    clock = Clock(monkeypatch)
    with bar("fit", 1000, show=True, unit="step") as advance:
        for second in range(1, 101):
            clock.now = 100.0 + second
            advance(10 * second, lambda: f"second {second}")  # noqa: B023
    lines = log.getvalue().splitlines()
    assert [int(line.split("second ")[1]) for line in lines] == [1, 3, 7, 15, 31, 61, 91, 100]
    assert max(LONGEST, 30) == 30
    assert lines[3] == "fit: 150/1,000 steps, 15 s, 1 min 25 s left: second 15"
    assert lines[-1] == "fit: 1,000/1,000 steps, 1 min 40 s: second 100"


def test_what_is_done_within_a_second_leaves_no_line(log, monkeypatch):
    clock = Clock(monkeypatch)
    with bar("fit", 2, show=True) as advance:
        clock.now += 0.9
        advance(2, str)
    assert log.getvalue() == ""


def test_each_phase_has_a_name_and_the_last_one_an_end(log, monkeypatch):
    clock = Clock(monkeypatch)
    with bar("rate", None, show=True, unit="trial", seconds=600.0) as advance:
        advance.phase("phase 1", None, "step")  # in place of one of which nothing was done
        clock.now += 2
        advance(1, str)
        advance(50, str)
        advance.phase("phase 2", None, "step")
        advance(7, str)
    assert log.getvalue().splitlines() == [
        "phase 1: 1 step, 2 s, at most 9 min 58 s left",
        "phase 1: 50 steps, 2 s",
        "phase 2: 7 steps, 0 s",
    ]


def test_nothing_is_said_by_who_is_not_to(log, capfd, monkeypatch):
    clock = Clock(monkeypatch)
    with bar("fit", 10, show=False) as advance:
        clock.now += 10
        advance(5, pytest.fail)
        advance.phase("on", 3, "")
    with bar("outside", 10, show=True) as advance, bar("inside", 10, show=True) as within:
        clock.now += 10
        within(5, pytest.fail)
        advance(1, str)
    assert log.getvalue() == "outside: 1/10, 10 s\n" and capfd.readouterr() == ("", "")


def test_time_left_does_not_count_what_was_compiled_first():
    phase = Phase("fit", 100, "", time.monotonic() - 50.0, math.inf)
    phase.first, phase.done = (time.monotonic() - 10.0, 0), 50
    assert phase.text(False) == "50/100, 50 s, 10 s left" and phase.text(True) == "50/100, 50 s"


@pytest.mark.parametrize("seconds, words", [(0.4, "0 s"), (59.4, "59 s"), (59.9, "1 min 0 s"), (3725.0, "1 h 2 min")])
def test_times(seconds, words):
    assert clock(seconds) == words


def views():
    def console() -> Terminal:
        return Terminal(file=io.StringIO(), force_terminal=True, width=100)

    return {"terminal": lambda: Live(console()), "log": lambda: Lines(console()), "notebook": Cell}


@pytest.mark.parametrize("name", views())
def test_showing_takes_a_hundredth_of_the_time_at_most(name, monkeypatch):
    """However slow a terminal is: a redraw of 50 ms is not due again before 5 s."""
    view = views()[name]()
    drawn = []

    def slow(phase, last):
        drawn.append(phase.done)
        now.now += 0.05
        return 0.1

    now = Clock(monkeypatch)
    monkeypatch.setattr(view, "draw", slow)
    shown = BAR.Bar(view, "fit", 10**6, "", math.inf)
    for step in range(1, 10_001):
        now.now += 0.01
        shown(step, str)
    assert 10 < len(drawn) <= 25  # in 100 s


def test_a_notebook_has_one_line_that_changes(monkeypatch):
    """By IPython's own display alone: no widgets."""
    display = pytest.importorskip("IPython.display")
    sent = []

    class Handle:
        def update(self, content, raw):
            sent.append(("update", content))

    def show(content, raw, display_id):
        sent.append(("display", content))
        return Handle()

    monkeypatch.setattr(display, "display", show)
    monkeypatch.setattr(BAR, "_view", Cell)
    now = Clock(monkeypatch)
    with bar("<fit>", 10, show=True) as advance:
        for step in (3, 10):
            now.now += 1
            advance(step, "5 < 6".__str__)
        advance.phase("next", None, "step")
        advance(1, str)
    assert [kind for kind, _ in sent] == ["display", "update", "update", "update", "display"]
    first, last = sent[1][1], sent[-1][1]
    assert first["text/plain"] == "<fit>: 3/10, 1 s: 5 < 6" and last["text/plain"] == "next: 1 step, 0 s"
    assert "&lt;fit&gt;" in first["text/html"] and "5 &lt; 6" in first["text/html"]
    assert 'value="3" max="10"' in first["text/html"] and 'value="1" max="1"' in last["text/html"]


def test_a_fit_that_converges_has_a_bar_for_each_phase(log, monkeypatch):
    """By its own name; the steps of all phases are those of the fit."""
    monkeypatch.setattr(Lines, "first", 0.0)
    monkeypatch.setattr(sys.modules["vbayes.progress.lines"], "FIRST", 0.0)
    monkeypatch.setattr(BAR, "SHARE", 0)
    fit = vb.fit(vb.pairs.normal_normal(), torch.tensor([0.5, 1.5]), max_steps=3000, learning_rate=0.1, device="cpu")
    taken = dict(re.findall(r"fit, (phase \d), rate [\d.e-]+: ([\d,]+) steps?", log.getvalue()))
    assert sum(int(steps.replace(",", "")) for steps in taken.values()) == fit.steps
    assert len(taken) == len(fit.convergence.phases) > 1


def test_an_evidence_ends_at_its_end(log, monkeypatch):
    monkeypatch.setattr(Lines, "first", 0.0)
    monkeypatch.setattr(BAR, "SHARE", 0)
    vb.log_evidence(vb.pairs.normal_normal(), torch.tensor([0.5, 1.5]), num_particles=64, method="iw")
    assert re.match(r"evidence: 64/64 draws, ", log.getvalue().splitlines()[-1])


# ---- as it is run


SCRIPT = """
import time, sys, vbayes.progress as p
with p.bar("fit", 30, show={show}, unit="step") as advance:
    for step in range(1, 31):
        time.sleep(0.05)
        advance(step, "ELBO {{}}".format(step).__str__)
        if step == 10:
            print("in between")
"""


def test_a_pipe_gets_lines_on_standard_error():
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(show=True)], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout == "in between\n"
    assert re.fullmatch(r"(fit: \d+/30 steps, \d+ s(, \d+ s left)?: ELBO \d+\n)+", told.stderr)
    assert told.stderr.splitlines()[-1].startswith("fit: 30/30") and "\x1b" not in told.stderr
    silent = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(show=False)], capture_output=True, text=True, timeout=60
    )
    assert silent.stderr == "" and silent.stdout == "in between\n"


def in_a_terminal(command: list[str], **options) -> str:
    """What a program writes on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    how = {"stdout": theirs, "stderr": theirs, "env": os.environ | {"TERM": "xterm", "COLUMNS": "100"}} | options
    child = subprocess.Popen(command, stdin=theirs, **how)
    os.close(theirs)
    written = b""
    while True:
        try:
            more = os.read(ours, 65536)
        except OSError:  # it has ended
            break
        if not more:
            break
        written += more
    assert child.wait(60) == 0
    return written.decode()


def test_a_terminal_gets_a_bar(tmp_path):
    written = in_a_terminal([sys.executable, "-c", SCRIPT.format(show=True)])
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written)
    assert "in between" in plain and plain.count("\n") <= 3  # one line that is drawn over
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain) if "━" in line]
    assert len(lines) > 2 and re.fullmatch(r"fit ━+ 30/30 steps, \d+ s: ELBO 30", lines[-1])
    with open(tmp_path / "out", "wb") as out:  # what is printed goes where it is to go
        in_a_terminal([sys.executable, "-c", SCRIPT.format(show=True)], stdout=out)
    assert (tmp_path / "out").read_text() == "in between\n"


@pytest.mark.slow
def test_a_notebook_that_is_executed_shows_where_it_ended():
    """Without ipywidgets, which nothing here asks for: one line, no warning, and nothing else."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    source = "import sys; sys.modules['ipywidgets'] = None\nimport vbayes as vb\n"
    source += "vb.fit(vb.pairs.normal_normal(), [0.0, 1.0], steps=500, device='cpu');"
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    (output,) = book.cells[0].outputs
    assert output.output_type == "display_data"
    assert re.match(r"fit: 500/500 steps, \d+ s: ELBO per datum ", output.data["text/plain"])
    assert '<progress value="500" max="500"' in output.data["text/html"]
