"""CSV files of digits."""

import numpy as np
import pytest

from tinygan.data import arrays, load
from tinygan.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16), dtype=np.uint8)
PIXELS[0, 0] = 255
NAMES = ",".join(f"pixel{number}" for number in range(16))
ROWS = [",".join(map(str, row)) for row in PIXELS.tolist()]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (f"label,{NAMES}\n", "7,{}"),  # Kaggle's train.csv
        (f"{NAMES}\n", "{}"),  # its test.csv
        (f"{NAMES},class\n", "{},7"),
        (",".join(map(str, range(17))) + "\n", "7,{}"),
        ("0," + ",".join(f"0.{number}" for number in range(1, 17)) + "\n", "7,{}"),
        (f'"label","{NAMES}"\r\n'.replace(",", '","', 1).replace('""', '"'), "7,{}"),
        ("", "7,{}"),
        ("", "{}"),
        ("\ufefflabel," + NAMES + "\n", "7,{}"),
    ],
)
def test_rows_of_digits_are_read_with_a_label_and_without(tmp_path, header, row):
    text = header + "".join(row.format(pixels) + "\n" for pixels in ROWS)
    (tmp_path / "a.CSV").write_text(text, encoding="utf-8")
    data = load(str(tmp_path / "a.CSV"), size=4)
    assert (data.images == PIXELS.reshape(5, 4, 4, 1)).all() and "[0, 255]" in data.notes[0]
    assert len(load(str(tmp_path / "a.CSV"), size=4, limit=3).images) == 3


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "rows of 1"),
        ("emotion,pixels,Usage\n0,70 80 82,Training\n", "rows of 3"),
        (f"label,{NAMES}\n", "has no pictures"),
        (f"label,{NAMES}\n\n\n", "has no pictures"),
        (f"label,{NAMES}\n7", "rows of 17 and of 1"),
        ("\n".join([f"7,{ROWS[0]}"] * 1000 + [ROWS[0]]), "changed from 17 to 16 at row 1001"),
        (f"7,{ROWS[0]}\n7,1,2\n", "cannot be read"),
        (f"7,{ROWS[0]}\n7,cat,{ROWS[1][4:]}\n", "cannot be read"),
        (f"7,{ROWS[0]}\n" + "1" * 3_000_000 + "\n", "cannot be read"),
        (",".join("1" * 3072) + "\n", "rows of 3072"),
    ],
)
def test_other_tables_are_refused_in_one_line(tmp_path, text, word):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=word) as error:
        load(str(tmp_path / "a.csv"), size=4)
    assert str(error.value).isprintable()


def test_a_table_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST", 200)
    (tmp_path / "a.csv").write_text("\n".join(ROWS))
    with pytest.raises(DataError, match="more than 200 bytes"):
        load(str(tmp_path / "a.csv"), size=4)
