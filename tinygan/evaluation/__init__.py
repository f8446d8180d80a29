"""How good are a generator's pictures? Measured with the features of a small classifier.

    classifier.py  the network, its weights (from benchmarks.train_classifier), features and classes
    distance.py    the Fréchet distance between two sets of features, and its error
    neighbours.py  precision, recall, coverage; the nearest training image
    comparison.py  all of it for one set of pictures, against the test images
    evaluation.py  a run's generator, against its data set's test images, real images and noise
"""
