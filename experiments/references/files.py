"""Data and reference draws of posteriordb, from local files or downloaded, and verified by hash."""

from __future__ import annotations

import json
import zipfile
from typing import Any

import numpy as np

from vbayes.data.datafile import DataFile, fetch

# The database as of 29 April 2025. BSD 3-clause, Stan Developers and their Assignees.
URL = (
    "https://raw.githubusercontent.com/stan-dev/posteriordb/28f8d3d6e975315f42aa274a8399f21e07a43b30/posterior_database"
)
FOLDERS = {"data": f"{URL}/data/data", "draws": f"{URL}/reference_posteriors/draws/draws"}
SHA256 = {
    "data/arK": "6f2acbacb04655927bfc9173c42e51fc330bf08c6184242a62b7e39c22abe410",
    "data/diamonds": "127d44a642f954b707bec2d82725e168d57a412d59487708794d4a17097f26ba",
    "data/earnings": "06a67aa61a99d59aee057486dae51ffad6b4f887e7f8f17733739cf893af312f",
    "data/eight_schools": "8e37cc01fe05b0e1779255e9bd386261f3d61daf7f75f02f72f38cdc9750531c",
    "data/gp_pois_regr": "9aaaa9d5694b74e2aefa6d0bd2f0a48637fcb4d455a74b33985e58154f285da9",
    "data/hmm_example": "8c346cc7627db1b5614b1eacb81ab9b0926aa63071ba2f3b6d6ec3b492892787",
    "data/kidiq": "16d341a99ec8178231eab660d8fda084a44145f6a241daf35276d0192d13b92d",
    "data/kidiq_with_mom_work": "0c82d40ace4c75bba4bc8824d4ece044e1d5f8700d479ea672001ab475254913",
    "data/mesquite": "ec9db3a2e390892473e6172d76386ba9b26c3633a9682532eb34217189dcb0ac",
    "data/sblrc": "81990278b8762ac79244afcd470861560c7b28e34e411ce6da814e6f632a1b81",
    "draws/arK-arK": "7ddb947e6c1ac5380f9c1e1fa101833a1236ef03de30f2cf5ece7b5b71841530",
    "draws/diamonds-diamonds": "2745f4857ceb358ff6c692ba1dd1fd9d01cf8bc5ac456ae87e3c957fd51c4aae",
    "draws/earnings-earn_height": "d70aad60517d530938f24d6841db87ce66ac1448e9f8d9a5bb5621edf53a4ced",
    "draws/earnings-logearn_interaction": "c34de19c290f25513686448cc1b0caff8248c97a1e47b5646d2af1d1f254707b",
    "draws/eight_schools-eight_schools_noncentered": "0858641e630c877103dba2b78beaf6bc1f39435fc43d2894c4dff5d609c7a264",
    "draws/gp_pois_regr-gp_regr": "df89f5011d9518b06c95a631c258ce03f4818b78deb40ed069cfd1d70074c8bb",
    "draws/hmm_example-hmm_example": "cd67e28247da25233d79d09df235075c6603735e45c28fdfa76125e515ece3cf",
    "draws/kidiq-kidscore_interaction": "acac3c394dfeb65ced6f14ddf20b5a5c075d7a80ae663d1d71f904c16d207065",
    "draws/kidiq_with_mom_work-kidscore_interaction_c": "5cf2e956ada413797dbb40896a826d60a7c6b61d9e91209f6f4b0ace6c5c53c1",
    "draws/mesquite-mesquite": "48f9a22ba3e5ae08c80fca3974a5db1341356bfd7eb3dc9f7df4c15ac1505ce4",
    "draws/sblrc-blr": "44f876cf35a038fcd1fd13fb19bbadf04b4308618ad41390050ae8b014a4592d",
}


def data(name: str) -> dict[str, Any]:
    """The contents of a data set's file: numbers and lists by name.

    Raises:
        DataUnavailable: The file can't be had; see `vbayes.data.datafile.fetch`.
    """
    return _read("data", name)


def draws(name: str) -> dict[str, np.ndarray]:
    """Reference draws of a posterior by parameter: (10 chains, 1000 draws), float64.

    Raises:
        DataUnavailable: The file can't be had; see `vbayes.data.datafile.fetch`.
    """
    chains = _read("draws", name)
    return {parameter: np.array([chain[parameter] for chain in chains], float) for parameter in chains[0]}


def _read(folder: str, name: str) -> Any:
    file = f"{folder}/{name}"
    path = fetch(DataFile(f"posteriordb/{file}.json.zip", SHA256[file], f"{FOLDERS[folder]}/{name}.json.zip"))
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(archive.namelist()[0]))
