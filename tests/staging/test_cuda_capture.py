"""Recording on a card that is played: what can't be recorded is told before a capture, and one that fails all the same leaves torch as it was."""

from __future__ import annotations

import threading

import pytest
import torch

from tests.devices.fake_cuda import Card, played
from vbayes.errors import VBayesError
from vbayes.staging import cuda_capture
from vbayes.staging.cuda_capture import WARM, WHY, Unrecordable, recorded, recorded_or_why
from vbayes.staging.cuda_graph import InPlace

HERE = torch.device("cuda", 0)


@pytest.fixture(params=[True, False], ids=["old torch", "new torch"])
def card(request, monkeypatch):
    card = Card(old=request.param)
    played(card, monkeypatch)
    monkeypatch.setattr(cuda_capture, "_alone", lambda: True)
    return card


def require_in_order(card):
    """Everything is as before, and the next capture works."""
    assert card.streams == card.default and card.index == 0 and not card.underway and card.mode == 0
    card.draw()
    (launch,) = recorded(card.kernel, device=HERE)
    before = card.ran
    launch()
    assert card.ran == before + 1 and card.streams == card.default


def test_functions_are_recorded_in_one_memory_and_launched_again(card):
    seen = []
    one, two = recorded(
        lambda: card.kernel(lambda: seen.append(1)), lambda: card.kernel(lambda: seen.append(2)), device=HERE
    )
    assert seen == [1] * WARM + [2] * WARM
    two()
    one()
    assert seen[-2:] == [2, 1] and {graph.pool for graph in card.graphs} == {(0, 1)}
    assert set(card.modes) == {"thread_local"} and card.cleared == 4
    aside = card.graphs[0].stream
    assert aside.waited[0] is card.default[0] and card.default[0].waited == [aside]
    require_in_order(card)


def test_what_brings_a_value_to_the_host_is_told_before_a_capture(card):
    with pytest.raises(RuntimeError, match="synchronizing"):
        recorded(card.kernel, card.read, device=HERE)
    assert not card.graphs
    require_in_order(card)


def test_threads_of_others_may_read_values(card, monkeypatch):
    """The setting that refuses reads is one for the process."""
    monkeypatch.undo()
    played(card, monkeypatch)
    modes, wait = [], threading.Event()
    thread = threading.Thread(target=wait.wait)
    thread.start()
    try:
        recorded(lambda: modes.append(card.mode), device=HERE)
    finally:
        wait.set()
        thread.join()
    assert set(modes) == {0}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_capture_leaves_torch_as_it_was(card, monkeypatch, error):
    monkeypatch.setattr(cuda_capture, "_alone", lambda: False)

    def once():
        if error is not RuntimeError and card.stream().graph:
            card.stream().graph.invalid = True
            raise error
        card.read()

    with pytest.raises((RuntimeError, error)):
        recorded(once, device=HERE)
    assert card.graphs[0].has_been_reset and card.graphs[0] in cuda_capture._ABANDONED
    require_in_order(card)


def test_an_error_that_is_not_the_captures_comes_through(card):
    def once():
        if card.stream().graph:
            raise ValueError("of the step")

    with pytest.raises(ValueError, match="of the step"):
        recorded(once, device=HERE)
    require_in_order(card)


def test_where_cuda_is_lost_it_is_said(card, monkeypatch):
    monkeypatch.setattr(cuda_capture, "_alone", lambda: False)

    def once():
        card.broken = card.stream().graph is not None
        card.read()

    with pytest.raises(
        VBayesError, match=r"not permitted .* can't be used any more .* illegal memory .*Fix: start Python anew"
    ):
        recorded_or_why(lambda: recorded(once, device=HERE))
    assert card.streams == card.default


def test_another_device_than_the_current_one(card):
    recorded(card.kernel, device=HERE)
    (launch,) = recorded(lambda: card.kernel(index=1), device=torch.device("cuda", 1))
    assert len(card.graphs[-1].kernels) == 1 and card.graphs[-1].stream.device_index == 1 and card.index == 0
    before = card.ran
    launch()
    assert card.ran == before + 1


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        (True, "an operation brings a value to the host"),
        (False, "RuntimeError: CUDA error: operation not permitted when stream is capturing"),
    ],
)
def test_the_reason_is_said_once_with_a_way_out(card, monkeypatch, read, reason):
    monkeypatch.setattr(cuda_capture, "_alone", lambda: read)
    cuda_capture.say_once.cache_clear()
    with pytest.warns(UserWarning, match=f"{WHY}: {reason}. Fix: install JAX's CUDA support") as said:
        for _ in range(2):
            assert recorded_or_why(lambda: recorded(card.read, device=HERE)) == (None, WHY)
    assert len(said) == 1
    cuda_capture.say_once.cache_clear()
    with pytest.warns(UserWarning, match=f"{WHY}: a median is read. Fix"):

        def refuse():
            raise Unrecordable("a median is read")

        recorded_or_why(refuse)


def test_states_are_as_they_were_where_a_step_in_place_is_refused(card, monkeypatch):
    """The runs before recording take steps."""
    states = torch.zeros(2), torch.ones(())

    def refused(*functions, device):
        with pytest.raises(RuntimeError):
            recorded(*functions, card.read, device=device)
        assert states[0].tolist() == [WARM, WARM]
        raise RuntimeError("refused")

    monkeypatch.setattr("vbayes.staging.cuda_graph.recorded", refused)
    with pytest.raises(RuntimeError, match="refused"):
        InPlace(lambda a, b, row: [a + row, b * 2], states, [torch.ones(())])
    assert states[0].tolist() == [0, 0] and float(states[1]) == 1
