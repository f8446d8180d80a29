"""How good are a generator's pictures? Numbers instead of a look, from the features of a small classifier.

classifier.py        the network, its weights, features and classes of pictures
train_classifier.py  the script that trained it
distance.py          the Fréchet distance between two sets of features, and its error
neighbours.py        precision, recall, coverage; the nearest training image
judge.py             all of it for one set of pictures, beside what real images and noise get
"""
