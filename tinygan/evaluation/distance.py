"""How far two sets of pictures are from each other, by a classifier's features. All in float64.

The Fréchet distance between two sets of features, each approximated by a normal distribution:

    d = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

(Dowson & Landau 1982; for generated pictures Heusel et al. 2017, arXiv 1706.08500, equation 6). With our
classifier it is called FCD, Fréchet classifier distance. FID uses another network and is not comparable."""

import numpy as np

BOOTSTRAPS = 50  # enough for the first digit of the error

Moments = tuple[np.ndarray, np.ndarray]  # mean (F,) and covariance (F, F) of features


def moments(features: np.ndarray) -> Moments:
    """The `Moments` of features (N, F), N > 1; the covariance divides by N - 1."""
    return features.mean(axis=0, dtype=np.float64), np.cov(features, rowvar=False, dtype=np.float64)


def frechet(a: Moments, b: Moments) -> float:
    """The Fréchet distance between two normal distributions: 0 if and only if they are equal. The trace of
    (S1 S2)^(1/2) is the sum of the roots of S1 S2's eigenvalues. R S2 R, with R = S1^(1/2), has the same ones
    and is symmetric: two symmetric eigenvalue problems, exact even if a covariance is singular."""
    (mu1, S1), (mu2, S2) = a, b
    values, vectors = np.linalg.eigh(S1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    middle = root @ S2 @ root
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh((middle + middle.T) / 2), 0))
    distance = (mu1 - mu2) @ (mu1 - mu2) + np.trace(S1) + np.trace(S2) - 2 * roots.sum()
    return max(0.0, float(distance))  # rounding can leave -1e-15


def standard_error(features: np.ndarray, reference: np.ndarray) -> float:
    """The standard error of the distance between features (N, F) and (M, F), by the bootstrap (Efron 1979):
    its standard deviation over `BOOTSTRAPS` draws, with replacement, from both sets."""
    random, both = np.random.default_rng(0), (features, reference)
    drawn = ([moments(random.choice(part, len(part))) for part in both] for _ in range(BOOTSTRAPS))
    return float(np.std([frechet(*pair) for pair in drawn], ddof=1))
