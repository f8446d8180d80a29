"""How far two sets of pictures are from each other, by the features of a classifier; all in float64.

The Fréchet distance between two sets of features, each taken for a normal distribution:

    d = |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

(Dowson & Landau 1982; for generated pictures Heusel et al. 2017, arXiv 1706.08500, equation 6). With our
classifier it is called FCD, Fréchet classifier distance; an FID, by another network, is not comparable."""

import numpy as np

BOOTSTRAPS = 50  # enough for an error of which one digit is read

Moments = tuple[np.ndarray, np.ndarray]  # mean (F,) and covariance (F, F) of features


def moments(features: np.ndarray) -> Moments:
    """The `Moments` of features (N, F), N > 1; the covariance divides by N - 1."""
    return features.mean(axis=0, dtype=np.float64), np.cov(features, rowvar=False, dtype=np.float64)


def frechet(a: Moments, b: Moments) -> float:
    """The Fréchet distance between two normal distributions: 0 if and only if they are the same. The
    eigenvalues of S1 S2, whose roots the trace adds up, are those of R S2 R with R the root of S1, which is
    symmetric: two symmetric eigenvalue problems, exact also where a covariance is singular."""
    (mu1, S1), (mu2, S2) = a, b
    values, vectors = np.linalg.eigh(S1)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    middle = root @ S2 @ root
    roots = np.sqrt(np.maximum(np.linalg.eigvalsh((middle + middle.T) / 2), 0))
    distance = (mu1 - mu2) @ (mu1 - mu2) + np.trace(S1) + np.trace(S2) - 2 * roots.sum()
    return max(0.0, float(distance))  # rounding may leave -1e-15


def standard_error(features: np.ndarray, reference: np.ndarray) -> float:
    """The spread of the distance between features (N, F) and (M, F) when both sets are drawn again, with
    replacement, `BOOTSTRAPS` times: the bootstrap (Efron 1979)."""
    random, both = np.random.default_rng(0), (features, reference)
    drawn = ([moments(random.choice(part, len(part))) for part in both] for _ in range(BOOTSTRAPS))
    return float(np.std([frechet(*pair) for pair in drawn], ddof=1))
