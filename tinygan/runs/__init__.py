"""What a training run leaves on disk, and what it shows while it runs.

- ``folder.py``      the numbered run folder: configuration, log, statistics; files written atomically
- ``lock.py``        one process at a time writes there
- ``checkpoint.py``  one file holding everything a run needs to go on, damage always noticed
- ``pictures.py``    arrays of images to one grid, and PNG files
- ``animation.py``   the grids of a run as a looping GIF
- ``health.py``      how the training is going, measured and put into words
- ``report.py``      all of it on one page, with ``explorer.py``, ``summary.py`` and the files in ``page/``
- ``progress.py``    the line that moves on the terminal, with the time left

Nothing is imported here: a command loads Pillow or imageio only when it needs them.
"""
