"""How the training is going, in words: measured on a few pictures, since a GAN's losses need not fall."""

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
PART = 64  # at a time: that takes no more memory than a step


class Health(NamedTuple):
    """What is measured; every number but the two distances between pictures lies in [0, 1]."""

    real_accuracy: float  # share of real pictures that D takes for real
    fake_accuracy: float  # share of fakes that D rejects
    real_spread: float  # standard deviation of D(x): 0 where D says the same of every picture
    fake_spread: float  # of D(G(z))
    diversity: float  # mean distance between two of G's pictures, 1 = as far as two real ones
    nearest: float  # mean distance from one to the one most like it, 1 = as far as among real ones
    dead: float  # share of LeakyReLU channels that none of these pictures makes positive


def measure(G: Network, D: Network, images: Array, noise: Array) -> Health:
    """Measure on `images` (n, H, W, C) in [-1, 1] and what G makes of `noise` (m, noise_dim), n, m >= 1, not
    in training mode: the G that is trained, also where people see the pictures of averaged weights."""
    backend, xp = G.backend, G.backend.xp
    with no_grad():
        fakes, alive_G = _run(G, noise)
        logits, alive_D = _run(D, xp.concatenate([images, fakes]))
    logits = backend.numpy(logits)[:, 0].astype(np.float64)
    real, fake = logits[: len(images)], logits[len(images) :]
    alive = np.concatenate([alive_G, alive_D])
    count = min(len(images), len(fakes))  # among more pictures the nearest is nearer
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
    """The network's output for `x`, and which channels of its LeakyReLUs are positive for any of it."""
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
    """Mean Euclidean distances of `pictures` (n, ...) from each other and from their nearest; 0 if n is 1."""
    count, flat = len(pictures), pictures.reshape(len(pictures), -1).astype(np.float64)
    if count == 1:
        return 0.0, 0.0
    distances = np.sqrt(squared_distances(flat, flat))[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    distances[distances < 1 / 255] = 0  # rounding between equal ones: far less than one step of one pixel
    return float(distances.mean()), float(distances.min(axis=1).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2 for a (N, F) and b (M, F): (N, M)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0)  # where rounding leaves something below


# When a number is worth a warning; in parentheses, what it was in runs that went well (benchmarks.verdicts).
RUNAWAY = 20.0  # mean loss of G (0.4 to 0.9): for float32 there is hardly a probability but 0 and 1
SWINGING = 0.25  # what D loses by being sure, now and then of the wrong thing (0.05)
CERTAIN = 0.15  # mean loss of D (1.1 to 1.4): then the gradients that reach G are next to nothing
LEADING = 0.1  # mean of D(G(z)) above that of D(x): D learns too little
DEAD = 0.25  # of the channels
COLLAPSED = 0.4  # of the distance between real pictures; garments of one kind are 0.57 to 0.95 apart
REPEATED = 0.35  # of that between nearest ones: a few pictures, however far apart, come again and again
RISING = 0.1  # of these two limits within the window: the pictures are becoming different
WINDOW = 100  # steps, and at least two epochs, for which what is found has lasted
FAR = 0.06  # Adam's lr times steps: until then the pictures of a good run are blots, too
SOON, LATE = 200, 2000  # the fewest and the most of these steps, whatever the lr
NEEDED = ("epoch", "step", "g_loss", "d_loss", "real_score", "fake_score", *Health._fields)


class Verdict(NamedTuple):
    """What is the matter, in a word; what shows it; and what to try: nothing where nothing is wrong."""

    kind: str
    words: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.words}. {self.advice}" if self.advice else self.words


def verdict(rows: Sequence[dict[str, Any]], settings: Settings) -> Verdict:
    """What the statistics `rows` of a run say of its last epoch: causes first, symptoms after them."""
    recent: list[dict[str, Any]] = []
    for row in reversed(rows):
        row = {**row, **(row["health"] if isinstance(row.get("health"), dict) else {})}
        enough = len(recent) > 1 and row["step"] <= recent[-1]["step"] - WINDOW
        if enough or not all(isinstance(row.get(name), (int, float)) for name in NEEDED):
            break  # an older version's row, or a damaged one, ends it, too
        recent.insert(0, row)
    return _cause(recent, settings) or _early(recent[-1], len(recent), settings) or _symptom(recent, settings)


def _cause(recent: list[dict[str, Any]], settings: Settings) -> Verdict | None:
    """What shows even before the pictures can be judged."""
    now, lr_d = recent[-1], settings.lr_d or settings.lr
    best = "" if settings.recipe == "best" else ", or with --recipe best"
    losses = f"mean losses G {now['g_loss']:,.4g}, D {now['d_loss']:,.4g}"
    if now["diversity"] == now["nearest"] == 1:  # exactly: what `measure` says where real ones are 0 apart
        return Verdict("blank", "the real pictures are all the same", "Look at them in reals.png.")
    if settings.batch_size == 1:
        words = "batches of one picture: batch normalisation takes G's noise away"
        return Verdict("batch", words, "Start again with --batch-size 16 or more.")
    away = any(row["g_loss"] > RUNAWAY for row in recent)
    # How far D's loss is above that of a D that gives all real pictures their mean score, all fakes theirs.
    scores = (max(row["real_score"] * (1 - row["fake_score"]), 1e-12) for row in recent)
    swings = (row["d_loss"] + math.log(score) for row, score in zip(recent, scores, strict=True))
    if away or any(swing > SWINGING for swing in swings):
        what = "the losses run away" if away else "unstable: D is sure, then wrong"
        advice = f"Start again with a smaller --lr than {settings.lr:g}{best}."
        return Verdict("unstable", f"{what}; {losses}", advice)
    if len(recent) < 2 or now["step"] < WINDOW:
        return None
    if all(row["d_loss"] < CERTAIN for row in recent):
        words = f"D is winning, and G learns next to nothing; {losses}"
        return Verdict("D", words, f"Start again with a smaller --lr-d than {lr_d:g}{best}.")
    if all(row["fake_score"] > row["real_score"] + LEADING for row in recent):
        words = f"G is winning: D takes fakes for real rather than real pictures; {losses}"
        return Verdict("G", words, f"Start again with a larger --lr-d than {lr_d:g}{best}.")
    return None


def _early(now: dict[str, Any], epochs: int, settings: Settings) -> Verdict | None:
    """Until when it is too early to tell, if it is."""
    steps = min(max(FAR / settings.lr, SOON), LATE)
    if epochs > 1 and now["step"] >= steps:
        return None
    epoch = max(math.ceil(steps * now["epoch"] / now["step"]), now["epoch"] + 1)
    when = f"see epoch {epoch}" if epoch <= settings.epochs else f"that takes {epoch} epochs"
    return Verdict("early", f"too early to tell, before {steps:,.0f} steps and two epochs: {when}")


def _symptom(recent: list[dict[str, Any]], settings: Settings) -> Verdict:
    """What the pictures and the networks show."""
    now, smaller = recent[-1], f"Start again with a smaller --lr than {settings.lr:g}."
    if all(row["dead"] > DEAD for row in recent):
        return Verdict("dead", f"{100 * now['dead']:.0f} % of the LeakyReLU channels are dead", smaller)
    alike = [min(row["diversity"] / COLLAPSED, row["nearest"] / REPEATED) for row in recent]
    different = f"from each other {100 * now['diversity']:.0f} % as much as real pictures do"
    if alike[-1] < 1:
        found = f"They differ {different}, nearest ones {100 * now['nearest']:.0f} %"
        if max(alike) >= 1 or alike[-1] > alike[0] + RISING:
            return Verdict("early", f"too early to tell whether samples stay alike. {found}")
        advice = smaller if settings.recipe == "best" else "Start again with --recipe best."
        return Verdict("collapse", f"samples look alike: mode collapse? {found}", advice)
    return Verdict("healthy", f"healthy: neither network is winning, samples differ {different}")
