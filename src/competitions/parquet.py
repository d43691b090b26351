"""Images as rows of parquet files: a column that names the image, then its grey pixels, a column each.

    COMPETITION = csv_competition(..., train_folder="train_image_data", find=parquet_images("image_id", (137, 236)))

reads train_image_data.parquet, or train_image_data_0.parquet, train_image_data_1.parquet ... Needs pyarrow.
"""

import io
import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from src.competitions.tables import FindImages
from src.core.errors import InputError
from src.core.reading import InputFiles
from src.core.zips import Location, read_location

ROWS = 256  # read at a time: a file of 50,000 images has 1.6 GB of pixels


def parquet_images(id_column: str, shape: tuple[int, int]) -> FindImages:
    """Return what finds images of this shape (height, width) by the names in `id_column`, for csv_competition."""

    def find(files: InputFiles, folder: str, names: "pd.Series[str]", table: str) -> list[str]:
        wanted = re.compile(rf"{re.escape(folder)}(_\d+)?\.parquet")
        parts = {path.rpartition("/")[2] for path in files.found.paths if wanted.fullmatch(path.rpartition("/")[2])}
        if not parts:
            raise InputError(f"{files.root}: {folder}_0.parquet is missing. {files.source}".strip())
        for part in sorted(parts):
            location = files.find(part)
            row = 0
            for found, images in _batches(location, part, id_column, shape):
                files.add_pixels(folder, images, location, names=found, first_row=row)
                row += len(found)
        return [f"{folder}/{name}" for name in names]

    return find


def _batches(
    location: Location, name: str, id_column: str, shape: tuple[int, int]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield names and images (n, H, W) uint8. Raises InputError without pyarrow, or for a file of anything else."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(f"{name}: pyarrow is not installed; pip install -r requirements-parquet.txt") from error
    try:
        with pyarrow.parquet.ParquetFile(
            io.BytesIO(read_location(location)) if location.member else location.file
        ) as file:
            schema = file.schema_arrow
            pixels = [column for column in schema.names if column != id_column]
            if id_column not in schema.names or len(pixels) != shape[0] * shape[1]:
                raise InputError(
                    f"{name}: {len(schema.names):,} columns; expected {id_column} and {shape[0]}x{shape[1]} pixels"
                )
            if {schema.field(column).type for column in pixels} != {pyarrow.uint8()}:
                raise InputError(f"{name}: its pixels are not bytes (uint8)")
            for batch in file.iter_batches(batch_size=ROWS):
                values = batch.drop_columns(id_column).to_tensor().to_numpy()  # (n, H * W)
                yield [str(text) for text in batch.column(id_column).to_pylist()], values.reshape(-1, *shape)
    except pyarrow.ArrowException as error:
        raise InputError(f"{name}: not a readable parquet file ({error}); download it again") from error
