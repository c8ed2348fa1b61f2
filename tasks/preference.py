"""Which of several documents that say the same is kept: the more permissive licence, the longer, the first by id.

In: columns of all documents. Out: the place of each in the order of preference. To change the policy for licences,
edit `LICENSE_RANKS`.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domainlm.tasks.documents import UNKNOWN_LICENSE

# The first pattern that fits, from no conditions at all to nobody knows.
LICENSE_RANKS = (
    r"CC0-.*|CC-PDM-.*|PDDL-.*|Unlicense|LicenseRef-public-domain",
    r"CC-BY-\d.*|LicenseRef-CC-BY-(unversioned|\d.*)|MIT.*|Apache-.*|BSD-.*|0BSD|ISC|ODC-By-.*",
    r"CC-BY-SA-.*|LicenseRef-CC-BY-SA-.*|ODbL-.*|GPL-.*|LGPL-.*|AGPL-.*|MPL-.*|GFDL-.*",
    rf"(?!{UNKNOWN_LICENSE}$|.*(NC|ND|noncommercial)).*",
    rf"(?!{UNKNOWN_LICENSE}$).*",
)


def preference(doc_ids: pa.ChunkedArray, ranks: NDArray[np.int8], chars: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each document among all, the one to keep first: by licence rank, then length, then id."""
    order = pc.sort_indices(doc_ids).to_numpy()
    order = order[np.lexsort((-chars[order], ranks[order]))]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def license_ranks(licenses: pa.ChunkedArray) -> NDArray[np.int8]:
    """The place of each document's licence in `LICENSE_RANKS`."""
    coded = licenses.combine_chunks().dictionary_encode()
    ranks = np.array([license_rank(license) for license in coded.dictionary.to_pylist()], dtype=np.int8)
    of_each: NDArray[np.int8] = ranks[coded.indices.to_numpy()]
    return of_each


def license_rank(license: str) -> int:
    """The place of an SPDX expression in `LICENSE_RANKS`; AND is as strict as its strictest side, OR as its mildest."""

    def one(name: str) -> int:
        fits = (rank for rank, pattern in enumerate(LICENSE_RANKS) if re.fullmatch(pattern, name))
        return next(fits, len(LICENSE_RANKS))

    sides = (re.split(r"\s+OR\s+", side) for side in re.split(r"\s+AND\s+", license.replace("(", "").replace(")", "")))
    return max(min(one(name.strip()) for name in side) for side in sides)
