"""Says how the training is going. It measures a few pictures, since a GAN's losses do not have to fall."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import Array
from tinygan.autograd import Tensor, no_grad
from tinygan.layers import LeakyReLU, Mode, Network
from tinygan.ops.loss import sigmoid
from tinygan.runs.settings import Settings

MEASURED_ON = 256  # real pictures, and as many fakes
PART = 64  # pictures at a time: measuring needs no more memory than a step


class Health(NamedTuple):
    """The measurements, all in [0, 1] except `diversity` and `nearest`, which are ratios of distances."""

    real_accuracy: float  # share of real pictures that D calls real
    fake_accuracy: float  # share of fakes that D calls fake
    real_spread: float  # standard deviation of D(x): 0 if D gives every picture the same answer
    fake_spread: float  # the same of D(G(z))
    diversity: float  # mean distance between two of G's pictures, as a fraction of that between real ones
    nearest: float  # mean distance from a picture to its nearest neighbour, likewise as a fraction
    dead: float  # share of LeakyReLU channels that are never positive for any of the pictures


def measure(G: Network, D: Network, images: Array, noise: Array) -> Health:
    """Measure on `images` (n, H, W, C) in [-1, 1] and on G's pictures of `noise` (m, noise_dim), n, m >= 1,
    not in training mode. `G` is the one being trained, even if people see pictures of averaged weights."""
    backend, xp = G.backend, G.backend.xp
    with no_grad():
        fakes, alive_G = _run(G, noise)
        logits, alive_D = _run(D, xp.concatenate([images, fakes]))
    logits = backend.numpy(logits)[:, 0].astype(np.float64)
    real, fake = logits[: len(images)], logits[len(images) :]
    alive = np.concatenate([alive_G, alive_D])
    count = min(len(images), len(fakes))  # with more pictures, nearest neighbours are closer
    apart, nearest = _distances(backend.numpy(images)[:count])
    fakes_apart, fakes_nearest = _distances(backend.numpy(fakes)[:count])
    return Health(
        real_accuracy=float((real > 0).mean()), fake_accuracy=float((fake < 0).mean()),
        real_spread=float(sigmoid(real).std()), fake_spread=float(sigmoid(fake).std()),
        diversity=fakes_apart / apart if apart else 1.0,
        nearest=fakes_nearest / nearest if nearest else 1.0,
        dead=float(1 - alive.mean()) if len(alive) else 0.0,
    )  # fmt: skip


def _run(network: Network, x: Array) -> tuple[Array, np.ndarray]:
    """The network's output for `x`, and which channels of its LeakyReLUs are ever positive."""
    xp, outputs, alive = network.backend.xp, [], []
    for at in range(0, len(x), PART):
        y, positive = x[at : at + PART], [np.zeros(0, bool)]
        for name, tensor in network.outputs(Tensor(y, network.backend), Mode()):
            y = tensor.data
            if isinstance(network.layers[name], LeakyReLU):
                positive.append(network.backend.numpy((y > 0).any(axis=tuple(range(y.ndim - 1)))))
        outputs.append(y)
        alive.append(np.concatenate(positive))
    return xp.concatenate(outputs), np.any(alive, axis=0)


def _distances(pictures: np.ndarray) -> tuple[float, float]:
    """Mean Euclidean distance between `pictures` (n, ...), and to the nearest neighbour; 0 if n is 1."""
    count, flat = len(pictures), pictures.reshape(len(pictures), -1).astype(np.float64)
    if count == 1:
        return 0.0, 0.0
    distances = np.sqrt(squared_distances(flat, flat))[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    distances[distances < 1 / 255] = 0  # rounding: equal pictures can be a tiny distance apart
    return float(distances.mean()), float(distances.min(axis=1).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 for a (N, F) and b (M, F): (N, M)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)  # rounding can leave a negative number


# Limits from which a number is worth a warning; in parentheses, its value in good runs (benchmarks.verdicts).
RUNAWAY = 20.0  # mean loss of G (0.4 to 0.9): in float32, nearly every probability is then 0 or 1
SWINGING = 0.25  # the part of D's loss that comes from confident mistakes (0.05)
CERTAIN = 0.15  # mean loss of D (1.1 to 1.4): below it, almost no gradient reaches G
LEADING = 0.1  # how far mean D(G(z)) is above mean D(x): D learns too little
DEAD = 0.25  # share of the channels
COLLAPSED = 0.4  # `diversity`; garments of one kind are 0.57 to 0.95 apart
REPEATED = 0.35  # `nearest`: G repeats a few pictures, however far apart they are
RISING = 0.1  # of these two limits: growth within the window that shows samples becoming more varied
WINDOW = 100  # steps, and at least two epochs, that a finding must have lasted
FAR = 0.06  # learning rate times steps: before that, even good runs make only blots
SOON, LATE = 200, 2000  # bounds on these steps, at any learning rate
NEEDED = ("epoch", "step", "g_loss", "d_loss", "real_score", "fake_score", *Health._fields)


class Verdict(NamedTuple):
    """A finding: its kind in a word, the evidence, and what to try (empty unless something is wrong)."""

    kind: str
    words: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.words}. {self.advice}" if self.advice else self.words


def verdict(rows: Sequence[dict[str, Any]], settings: Settings) -> Verdict:
    """The verdict on the last epoch of a run, from its statistics `rows`: causes first, then symptoms."""
    recent: list[dict[str, Any]] = []
    for row in reversed(rows):
        row = {**row, **(row["health"] if isinstance(row.get("health"), dict) else {})}
        enough = len(recent) > 1 and row["step"] <= recent[-1]["step"] - WINDOW
        if enough or not all(isinstance(row.get(name), (int, float)) for name in NEEDED):
            break  # enough rows, or one that is damaged or of an older version
        recent.insert(0, row)
    return _cause(recent, settings) or _early(recent[-1], len(recent), settings) or _symptom(recent, settings)


def _cause(recent: list[dict[str, Any]], settings: Settings) -> Verdict | None:
    """A problem that shows even before the pictures mean anything, if there is one."""
    now, lr_d = recent[-1], settings.lr_d or settings.lr
    best = "" if settings.recipe == "best" else ", or with --recipe best"
    losses = f"(mean loss of G {now['g_loss']:,.4g}, of D {now['d_loss']:,.4g})"
    if now["diversity"] == now["nearest"] == 1:  # exactly: `measure` returns 1 if real ones are 0 apart
        return Verdict("blank", "the real pictures are all the same", "Check them in reals.png.")
    if settings.batch_size == 1:
        words = "batches of one picture: batch normalisation cancels G's noise"
        return Verdict("batch", words, "Start again with --batch-size 16 or more.")
    away = any(row["g_loss"] > RUNAWAY for row in recent)
    # How far D's loss is above that of a D that gives every real picture, and every fake, its mean score.
    scores = (max(row["real_score"] * (1 - row["fake_score"]), 1e-12) for row in recent)
    swings = (row["d_loss"] + math.log(score) for row, score in zip(recent, scores, strict=True))
    if away or any(swing > SWINGING for swing in swings):
        what = "the losses are exploding" if away else "unstable: D is confident, then wrong"
        advice = f"Start again with --lr below {settings.lr:g}{best}."
        return Verdict("unstable", f"{what} {losses}", advice)
    if len(recent) < 2 or now["step"] < WINDOW:
        return None
    if all(row["d_loss"] < CERTAIN for row in recent):
        words = f"D is winning, and G learns almost nothing {losses}"
        return Verdict("D", words, f"Start again with --lr-d below {lr_d:g}{best}.")
    if all(row["fake_score"] > row["real_score"] + LEADING for row in recent):
        words = f"G is winning: D finds fakes more real than real pictures {losses}"
        return Verdict("G", words, f"Start again with --lr-d above {lr_d:g}{best}.")
    return None


def _early(now: dict[str, Any], epochs: int, settings: Settings) -> Verdict | None:
    """That it is too early for a verdict, and until when; None once it is not."""
    steps = min(max(FAR / settings.lr, SOON), LATE)
    if epochs > 1 and now["step"] >= steps:
        return None
    epoch = max(math.ceil(steps * now["epoch"] / now["step"]), now["epoch"] + 1)
    when = f"see epoch {epoch}" if epoch <= settings.epochs else f"train for {epoch} epochs in all"
    return Verdict("early", f"too early to say: a verdict takes {steps:,.0f} steps and two epochs; {when}")


def _symptom(recent: list[dict[str, Any]], settings: Settings) -> Verdict:
    """What the pictures and the channels show."""
    now, smaller = recent[-1], f"Start again with --lr below {settings.lr:g}."
    if all(row["dead"] > DEAD for row in recent):
        return Verdict("dead", f"{100 * now['dead']:.0f}% of the LeakyReLU channels are dead", smaller)
    alike = [min(row["diversity"] / COLLAPSED, row["nearest"] / REPEATED) for row in recent]
    varied = f"{100 * now['diversity']:.0f}% as varied as real pictures"
    if alike[-1] < 1:
        found = f"They are {varied}, and nearest neighbours {100 * now['nearest']:.0f}% as far apart"
        if max(alike) >= 1 or alike[-1] > alike[0] + RISING:
            return Verdict("early", f"too early to say whether samples stay alike. {found}")
        advice = smaller if settings.recipe == "best" else "Start again with --recipe best."
        return Verdict("collapse", f"samples look alike: mode collapse? {found}", advice)
    return Verdict("healthy", f"healthy: neither network is winning, and samples are {varied}")
