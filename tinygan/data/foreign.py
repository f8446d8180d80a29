"""Formats that tinygan does not read, and a command that converts each into one that it does."""

import json
import re
from pathlib import Path
from string import Template

from tinygan.errors import pasted

# How a file starts, how its name ends, what it is, and Python code that converts $SOURCE to $ARRAY, an .npy
# file, or to $FOLDER: a folder of pictures or, if the file is compressed, the file in it.
KINDS = (
    ((b"\x89HDF\r\n", b"MATLAB 7.3"), r"\.(h5|hdf5)", "an HDF5 file",
     "import h5py, numpy; found = []; h5py.File($SOURCE).visititems(lambda name, d: found.append(d) "
     'if len(getattr(d, "shape", ())) > 2 else None); numpy.save($ARRAY, max(found, key=len))'),
    ((b"PAR1",), r"\.parquet", "a Parquet file",
     "import os, pandas; t = pandas.read_parquet($SOURCE); os.makedirs($FOLDER, exist_ok=True); "
     '[open($FOLDER + "/%07d.png" % i, "wb").write(p["bytes"]) for i, p in enumerate(t[next(c for c in t '
     "if isinstance(t[c][0], dict))])]"),
    ((), r"\.tfrecords?(-\d+-of-\d+)?", "a TFRecord file",
     "import os, tensorflow as tf; os.makedirs($FOLDER, exist_ok=True); "
     '[open($FOLDER + "/%07d.png" % i, "wb").write(tf.train.Example.FromString(r.numpy()).features'
     '.feature["image"].bytes_list.value[0]) for i, r in enumerate(tf.data.TFRecordDataset($SOURCE))]'),
    ((b"MATLAB 5.0",), r"\.mat", "a MATLAB file",
     'import numpy, scipy.io; x = max((v for v in scipy.io.loadmat($SOURCE).values() if hasattr(v, "shape"))'
     ", key=lambda v: v.size); numpy.save($ARRAY, numpy.moveaxis(x, int(numpy.argmax(x.shape)), 0))"),
    ((b"\x80",), r"\.(pkl|pickle)", "a pickle, which can run code: open it only if you trust it",
     'import numpy, pickle; x = pickle.load(open($SOURCE, "rb"), encoding="latin1"); numpy.save($ARRAY, '
     'x["data"].reshape(-1, 3, 32, 32) if isinstance(x, dict) else x[0][0] if isinstance(x, tuple) else x)'),
    ((b"\xfd7zXZ\0",), r"\.xz", "compressed with xz",
     'import lzma, shutil; shutil.copyfileobj(lzma.open($SOURCE), open($FOLDER, "wb"))'),
    ((b"\x1f\x8b",), r"\.gz", "compressed with gzip",
     'import gzip, shutil; shutil.copyfileobj(gzip.open($SOURCE), open($FOLDER, "wb"))'),
)  # fmt: skip


def remedy(path: Path, head: bytes) -> str:
    """Say what the file `path`, which starts with `head`, is and how to convert it; "" for other formats."""
    for starts, ending, kind, program in KINDS:
        if head.startswith(starts) or re.search(ending + "$", path.name.lower()):
            target = path.with_suffix(".npy" if "$ARRAY" in program else "" if path.suffix else ".d")
            source, made = json.dumps(str(path)), json.dumps(str(target))
            program = Template(program).substitute(SOURCE=source, ARRAY=made, FOLDER=made)
            return f"{kind}. Convert it with {pasted('python', '-c', program)} and use --data {target}"
    return ""
