"""Data sets, one file each: where the data come from, how they are verified, and how they become tensors."""

from __future__ import annotations

from collections.abc import Callable

from .binarized_mnist import binarized_mnist as binarized_mnist
from .datafile import DataFile as DataFile
from .datafile import fetch as fetch
from .dataset import Dataset
from .digits import digits as digits
from .eight_schools import eight_schools as eight_schools
from .frey_face import frey_face as frey_face
from .mnist import mnist as mnist
from .nile import nile as nile
from .normal_normal import normal_normal as normal_normal
from .table import read_table as read_table

read = read_table

DATASETS: dict[str, Callable[..., Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "binarized_mnist": binarized_mnist,
    "frey_face": frey_face,
    "eight_schools": eight_schools,
    "nile": nile,
    "normal_normal": normal_normal,
}
"""Name on the command line → loader; the first line of a loader's docstring says what it is."""
