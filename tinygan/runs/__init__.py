"""One training on disk.

    settings.py    every setting of a run, its command-line option, the recipes, and what a resume may change
    folder.py      the numbered run folder: made, found, locked; its checkpoints, latest and numbered
    records.py     what grows with the run: configuration, log, statistics, losses
    checkpoint.py  one file holding everything a run needs to go on; damage is always noticed
    config.py      what config.json holds: versions and so on; warnings where a resumed run differs from it
    state.py       what training changes: networks, Adams, the step; models loaded from a run; samples
    formats.py     models in other programs' formats: ONNX and safetensors
    trainer.py     what takes the steps: the batch of each, on any device
    progress.py    the line that moves on the terminal, with the time left
    loop.py        the epochs: batches in, pictures, statistics and checkpoints out; when it saves; signals

Nothing is imported here: a command loads Pillow or imageio only when it needs them.
"""
