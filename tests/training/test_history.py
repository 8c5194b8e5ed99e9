"""The history in an array: whoever reads it meets tuples and tables, as ever."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

import vbayes as vb
from vbayes.errors import BadInput
from vbayes.training.checkpoint_fields import rows as rows_of_file
from vbayes.training.history import COLUMNS, TOGETHER, Growing, History

ROWS = [(1, 1, -3.5, -1.75, 0.1), (2, 1, -2.5, -1.25, 0.2), (3, 2, -1.0 / 3, -1.0 / 6, 0.3)]


def table(count: int, start: int = 1) -> np.ndarray:
    steps = np.arange(start, start + count)
    return np.stack([steps, (steps + 1) // 2, -1.0 / steps, -0.5 / steps, 0.1 * steps], 1)


def test_it_is_a_sequence_of_tuples():
    made = History.of(ROWS)
    assert len(made) == 3 and made and not History()
    assert list(made) == ROWS and made == tuple(ROWS) and tuple(ROWS) == made and made == History.of(ROWS)
    assert made != ROWS[:2] and made != History.of(ROWS[:2]) and made != "rows"
    assert made[-1] == ROWS[-1] and made[1:] == ROWS[1:] and ROWS[1] in made and made.index(ROWS[1]) == 1
    assert [type(each) for each in made[0]] == [int, int, float, float, float]
    assert [type(each) for each in next(iter(made))] == [int, int, float, float, float]
    with pytest.raises(IndexError):
        made[3]
    again = pickle.loads(pickle.dumps(made))
    assert again == made and History.of(made) is made and repr(made) == f"History({ROWS})"


def test_many_rows_come_in_their_order():
    made = History(table(2 * TOGETHER + 3))
    assert [row[0] for row in made] == list(range(1, len(made) + 1))


def test_as_a_table():
    found = History.of(ROWS).to_dataframe()
    pd.testing.assert_frame_equal(found, pd.DataFrame(ROWS, columns=list(COLUMNS)))
    found.loc[0, "elbo"] = 7.0  # who changes the table does not change the fit
    assert list(History().to_dataframe().columns) == list(COLUMNS) and not len(History().to_dataframe())


def test_what_a_growing_one_has_handed_out_stays_as_it_is():
    grows, seen = Growing(History(table(3))), []
    for start in range(4, 40, 2):
        seen.append(grows.history)
        grows.add(table(2, start))
        grows.add(table(0))
    assert len(grows) == 39 and grows.history == History(table(39))
    assert all(each == History(table(len(each))) for each in seen)
    with pytest.raises(ValueError, match="read-only"):
        grows.history.table[0] = 0.0


def test_a_fit_takes_tuples_too():
    fit = vb.fit(vb.pairs.normal_normal(), torch.zeros(2), steps=3, progress=False, device="cpu")
    twin = vb.training.result.Fit(**{**vars(fit), "rows": tuple(fit.rows)})
    assert (
        twin.rows == fit.rows
        and twin.history.equals(fit.history)
        and len(twin.resume(steps=1, progress=False).rows) == 4
    )


@pytest.mark.parametrize("place, value", [((0, 0), 2.0), ((1, 1), float("nan")), ((1, 1), 1e300)])
def test_a_damaged_one_is_refused(place, value):
    history = torch.from_numpy(table(3))
    assert rows_of_file(history) == History(table(3))
    history[place] = value
    with pytest.raises(BadInput, match="does not count the steps from 1"):
        rows_of_file(history)
