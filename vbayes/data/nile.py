"""The yearly flow of the Nile: a hundred numbers with a change point of known cause."""

from __future__ import annotations

import torch

from ..arguments.takes import takes
from .dataset import Dataset

FIRST_YEAR = 1871
# Cobb 1978, table 1: volume discharged at Aswan in the years 1871 to 1970, in 10⁸ m³.
FLOW = (
    1120.0, 1160.0, 963.0, 1210.0, 1160.0, 1160.0, 813.0, 1230.0, 1370.0, 1140.0,  # 1871
    995.0, 935.0, 1110.0, 994.0, 1020.0, 960.0, 1180.0, 799.0, 958.0, 1140.0,
    1100.0, 1210.0, 1150.0, 1250.0, 1260.0, 1220.0, 1030.0, 1100.0, 774.0, 840.0,
    874.0, 694.0, 940.0, 833.0, 701.0, 916.0, 692.0, 1020.0, 1050.0, 969.0,  # 1901
    831.0, 726.0, 456.0, 824.0, 702.0, 1120.0, 1100.0, 832.0, 764.0, 821.0,
    768.0, 845.0, 864.0, 862.0, 698.0, 845.0, 744.0, 796.0, 1040.0, 759.0,
    781.0, 865.0, 845.0, 944.0, 984.0, 897.0, 822.0, 1010.0, 771.0, 676.0,  # 1931
    649.0, 846.0, 812.0, 742.0, 801.0, 1040.0, 860.0, 874.0, 848.0, 890.0,
    744.0, 749.0, 838.0, 1050.0, 918.0, 986.0, 797.0, 923.0, 975.0, 815.0,
    1020.0, 906.0, 901.0, 1170.0, 912.0, 746.0, 919.0, 718.0, 714.0, 740.0,  # 1961
)  # fmt: skip


@takes()
def nile() -> Dataset:
    """Yearly flow of the Nile at Aswan, 1871 to 1970, one sequence of 100 numbers; bundled.

    Column: `x` float32 (1, 100), in 10⁸ m³ per year. It fell after 1898, as work on the first dam at Aswan began.

    References:
        Cobb 1978, The problem of the Nile: conditional solution to a changepoint problem, Biometrika 65(2),
        doi:10.1093/biomet/65.2.243.
    """
    return Dataset(
        {"x": torch.tensor([FLOW])},
        name="nile",
        dims={"x": ("year",)},
        source="Cobb 1978, Biometrika 65(2), table 1",
        licence="public domain (a published table of measurements)",
    )
