"""How good are a generator's pictures? Measured with the features of a small classifier.

    classifier.py  the network, its weights (from benchmarks.train_classifier), features and classes
    distance.py    the Fréchet distance between two sets of features, and its error
    neighbours.py  precision, recall, coverage; the nearest training image, and whether pictures are copies
    evaluation.py  all of it for a set of pictures, against the test images; a run's generator, against real
                   images and noise
"""
