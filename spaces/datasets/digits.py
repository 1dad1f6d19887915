"""scikit-learn's handwritten digits: 1,797 grey images of 8x8, in the package itself, so never downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spaces.datasets import splits
from spaces.datasets._spec import Arrays, Dataset, DataSpec, Source, identify
from spaces.errors import DatasetUnavailable

# The set has no official test part: this seed draws one (a fifth of each class) that is the same for ever.
TEST_SEED = 1797
TEST_SIZE = 359

SHA256 = {
    "x_train": "d3fbb00c963c11266a4421bb26c6590340f73a83330f2a763ad8181db329487c",
    "y_train": "0889f22913dfb6d56d4bb1c473f20b220f4bca962afbbe6112f95b5de5ca3d41",
    "x_test": "9bd1ba2b775270a74e30156bcf30c1bd22b5d0be2c8280bd416f0b5b96e0ca1d",
    "y_test": "c3a0ec5f97ecf1804871375137ada5895d773fc6f59d36054be68e7370aa425c",
}


def _read(folder: Path, progress: bool) -> Arrays:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DatasetUnavailable(f"scikit-learn cannot be imported: {error}") from error

    raw = load_digits()
    # The pixels count 0 to 16 ink dots of a 4x4 block.
    x = np.round(raw.images[..., np.newaxis] * (255 / 16)).astype(np.uint8)
    y = raw.target.astype(np.uint8)
    train, test = splits.split(y, classes=10, validation_size=TEST_SIZE, seed=TEST_SEED)
    return {"x_train": x[train], "y_train": y[train], "x_test": x[test], "y_test": y[test]}


def _sources() -> Sequence[Source]:
    return (Source(title="scikit-learn", read=_read),)


DATASET = Dataset(
    spec=DataSpec(
        name="digits",
        input_shape=(8, 8, 1),
        classes=10,
        class_names=tuple("0123456789"),
        mean=(78.009290,),
        std=(95.876483,),
        digest=identify(SHA256),
        train_size=1438,
        test_size=TEST_SIZE,
        validation_size=288,
    ),
    sha256=SHA256,
    sources=_sources,
    subfolders=("digits",),
    hint="pip install scikit-learn, which carries it",
)
