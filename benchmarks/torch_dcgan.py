"""PyTorch in the benchmark: eager, channels last, compiled, or a CUDA graph, with the fused Adam.

PyTorch pads both sides equally, so the tutorial's padding of (1, 2) is explicit: extra zeros before a
convolution, a crop after a transposed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks import worker
from benchmarks.worker import NOISE_DIM, Weights, serve

BEFORE, AFTER = 1, 2  # zeros around a picture that a 5 x 5 convolution of stride 2 halves
LR, BETA1, BETA2, EPS = 1e-4, 0.9, 0.999, 1e-7
LONG_AGO = 1e6  # after this many steps neither of Adam's averages needs a correction


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(NOISE_DIM, 256 * 7 * 7, bias=False)
        self.norm0 = nn.BatchNorm1d(256 * 7 * 7, eps=1e-3, momentum=0.01)
        self.conv1 = nn.ConvTranspose2d(256, 128, 5, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(128, eps=1e-3, momentum=0.01)
        self.conv2 = nn.ConvTranspose2d(128, 64, 5, stride=2, padding=BEFORE, bias=False)
        self.norm2 = nn.BatchNorm2d(64, eps=1e-3, momentum=0.01)
        self.conv3 = nn.ConvTranspose2d(64, 1, 5, stride=2, padding=BEFORE, bias=False)

    def forward(self, noise: Tensor) -> Tensor:
        x = functional.leaky_relu(self.norm0(self.dense(noise)), 0.3).view(-1, 256, 7, 7)
        x = functional.leaky_relu(self.norm1(self.conv1(x)), 0.3)
        x = functional.leaky_relu(self.norm2(self.conv2(x)[:, :, :14, :14]), 0.3)
        return torch.tanh(self.conv3(x)[:, :, :28, :28])


class Discriminator(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 5, stride=2)
        self.conv2 = nn.Conv2d(64, 128, 5, stride=2)
        self.dense = nn.Linear(128 * 7 * 7, 1)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2):
            x = conv(functional.pad(x, (BEFORE, AFTER, BEFORE, AFTER)))
            x = functional.dropout(functional.leaky_relu(x, 0.3), self.dropout)
        return self.dense(x.flatten(1))


class Player(worker.Player):
    def __init__(
        self,
        variant: str,
        threads: int,
        device: str,
        precision: str,
        dropout: float,
        images: np.ndarray,
        noise: np.ndarray,
    ) -> None:
        self.version = f"PyTorch {torch.__version__}"
        self.device = torch.device("cuda" if device == "gpu" else "cpu")
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        if device == "gpu" and not torch.cuda.is_available():
            raise SystemExit("PyTorch sees no GPU.")
        if variant == "graph" and device == "cpu":
            raise SystemExit("A CUDA graph needs a GPU.")
        last = variant in ("channels-last", "graph")
        layout = torch.channels_last if last else torch.contiguous_format
        self.G = Generator().to(self.device, memory_format=layout)
        self.D = Discriminator(dropout).to(self.device, memory_format=layout)
        self.adams = self.make_adams(captured=variant == "graph")
        pictures = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self.images = pictures.to(self.device, memory_format=layout)
        self.noise = torch.from_numpy(noise).to(self.device)
        self.ones = torch.ones(len(images), 1, device=self.device)
        self.zeros = torch.zeros(len(images), 1, device=self.device)
        self.t = 0
        self.losses, self.variant = self.both_losses, variant
        self.graph: Any = None
        self.of_graph: Any = None  # its losses
        if variant == "compile":
            # The graph of D(G(z)) has two backward passes, one for each loss.
            torch._functorch.config.donated_buffer = False
            mode = "max-autotune" if device == "gpu" else None
            self.losses = torch.compile(self.both_losses, mode=mode)

    def both_losses(self) -> tuple[Tensor, Tensor]:
        fakes = self.G(self.noise)
        real, fake = self.D(self.images), self.D(fakes)
        entropy = functional.binary_cross_entropy_with_logits
        return entropy(fake, self.ones), entropy(real, self.ones) + entropy(fake, self.zeros)

    def make_adams(self, captured: bool) -> list[Any]:
        """Adam for G and for D. If captured, what changes between steps is on the card."""
        lr = torch.tensor(LR, device=self.device) if captured else LR
        return [
            # Without `capturable` PyTorch refuses to capture a step of Adam.
            torch.optim.Adam(
                network.parameters(), lr, (BETA1, BETA2), EPS, fused=True,
                capturable=captured and self.device.type == "cuda",
            )
            for network in (self.G, self.D)
        ]  # fmt: skip

    def step(self) -> tuple[float, float]:
        self.t += 1
        if self.variant == "graph":
            if self.graph is None:
                self.capture()
            self.follow_keras(self.t)
        else:
            for adam in self.adams:
                # PyTorch adds eps to the corrected root, Keras to the uncorrected one.
                adam.param_groups[0]["eps"] = EPS / sqrt(1 - BETA2**self.t)
        g_loss, d_loss = self.take()
        return g_loss.item(), d_loss.item()

    def follow_keras(self, t: int) -> None:
        """Make the next step of captured Adams equal Keras's step number `t`.

        A graph has a fixed eps, while Keras's eps, in PyTorch's terms, changes with every step until no
        average needs a correction. So the step counts, on the card, claim that this is long past, and the
        learning rate, also on the card, makes the corrections. Timed steps skip this: they cost the same.
        """
        for adam in self.adams:
            adam.param_groups[0]["lr"].fill_(LR * sqrt(1 - BETA2**t) / (1 - BETA1**t))
            for state in adam.state.values():
                state["step"].fill_(LONG_AGO)

    def take(self) -> tuple[Tensor, Tensor]:
        """Start a step without waiting for it, as it is timed. The next step may overwrite its losses."""
        if self.graph is not None:
            self.graph.replay()
            return self.of_graph
        if self.variant == "compile" and self.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # lets max-autotune reuse captured memory
        losses = self.play()
        for adam in self.adams:
            adam.zero_grad()
        return losses

    def play(self) -> tuple[Tensor, Tensor]:
        """Take a step without clearing the gradients."""
        g_loss, d_loss = self.losses()
        d_loss.backward(inputs=list(self.D.parameters()), retain_graph=True)
        g_loss.backward(inputs=list(self.G.parameters()))
        for adam in self.adams:
            adam.step()
        return g_loss.detach(), d_loss.detach()

    def run(self, count: int) -> None:
        if self.variant == "graph" and self.graph is None:
            self.capture()
        for _ in range(count):
            self.take()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def capture(self) -> None:
        """Record a whole step as a graph, after warm-up steps on a side stream, as PyTorch's manual asks."""
        with self.undone():
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.take()
            torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):  # gradients are new arrays of the graph; every replay overwrites them
            self.of_graph = self.play()
        self.graph = graph

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo the steps taken in this context, without moving any tensor: a graph refers to addresses."""
        before = [
            {name: tensor.clone() for name, tensor in network.state_dict().items()}
            for network in (self.G, self.D)
        ]
        yield
        for network, tensors in zip((self.G, self.D), before, strict=True):
            network.load_state_dict(tensors)
        for adam in self.adams:
            for state in adam.state.values():
                for tensor in state.values():
                    tensor.zero_()

    def card_bytes(self) -> int | None:
        return torch.cuda.max_memory_reserved() if self.device.type == "cuda" else None

    def facts(self) -> dict[str, Any]:
        """The number of kernels in a step, from PyTorch's profiler."""
        if self.device.type == "cpu":
            return {}
        activity = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[activity.CUDA, activity.CPU]) as profile:
            self.run(1)
        kernels = [e for e in profile.events() if str(e.device_type).endswith("CUDA")]
        return {"launches": len(kernels)}

    def generate(self, noise: np.ndarray) -> np.ndarray:
        self.G.eval()
        with torch.inference_mode():
            return self.G(torch.from_numpy(noise).to(self.device)).cpu().numpy()

    def set_weights(self, weights: Weights) -> None:
        for name, tensor, to_torch, _ in self.table():
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(np.ascontiguousarray(to_torch(weights[name]))))

    def get_weights(self) -> Weights:
        return {
            name: from_torch(tensor.detach().cpu().numpy()) for name, tensor, _, from_torch in self.table()
        }

    def table(self):
        """Yield tinygan's name, the tensor, and the functions that convert its layout to PyTorch and back."""
        G, D = self.G, self.D

        def channels_first(columns):  # (..., 7, 7, C) -> (..., C, 7, 7), as one axis
            return lambda w: w.reshape(-1, 7, 7, columns).transpose(0, 3, 1, 2).reshape(w.shape)

        def channels_last(columns):
            return lambda w: w.reshape(-1, columns, 7, 7).transpose(0, 2, 3, 1).reshape(w.shape)

        first, last = channels_first(256), channels_last(256)
        flat_first, flat_last = channels_first(128), channels_last(128)
        plain = (lambda w: w, lambda w: w)
        conv = (lambda w: w.transpose(3, 2, 0, 1), lambda w: w.transpose(2, 3, 1, 0))  # in both directions
        yield "generator/00_dense/kernel", G.dense.weight, lambda w: first(w).T, lambda w: last(w.T)
        yield "generator/01_batchnorm/gamma", G.norm0.weight, first, last
        yield "generator/01_batchnorm/beta", G.norm0.bias, first, last
        yield "generator/04_conv_transpose/kernel", G.conv1.weight, *conv
        yield "generator/05_batchnorm/gamma", G.norm1.weight, *plain
        yield "generator/05_batchnorm/beta", G.norm1.bias, *plain
        yield "generator/07_conv_transpose/kernel", G.conv2.weight, *conv
        yield "generator/08_batchnorm/gamma", G.norm2.weight, *plain
        yield "generator/08_batchnorm/beta", G.norm2.bias, *plain
        yield "generator/10_conv_transpose/kernel", G.conv3.weight, *conv
        yield "discriminator/00_conv/kernel", D.conv1.weight, *conv
        yield "discriminator/00_conv/bias", D.conv1.bias, *plain
        yield "discriminator/03_conv/kernel", D.conv2.weight, *conv
        yield "discriminator/03_conv/bias", D.conv2.bias, *plain
        yield (
            "discriminator/07_dense/kernel",
            D.dense.weight,
            lambda w: flat_first(w.T),
            lambda w: flat_last(w).T,
        )
        yield "discriminator/07_dense/bias", D.dense.bias, *plain


if __name__ == "__main__":
    serve(Player)
