"""What is shown of a run: pictures, the animation, health, the report, the networks explained.

    pictures.py     arrays of images to one grid, and PNG files
    animation.py    which grids of a run the animation shows, and the GIF
    health.py       how the training is going, measured and put into words
    webpage.py      report.html, the report: all of it on one page, made of the files in page/
    explorer.py     the networks as that page runs them
    inspection.py   the layers of a network as a table; every one measured on a batch
    explanation.py  one training step in words
"""
