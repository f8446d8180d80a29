"""The content of ``config.json``: a run's commands, settings, data, device and versions."""

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import imageio
import numpy as np
import PIL

import tinygan
from tinygan import machine
from tinygan.arrays import Backend
from tinygan.data import Dataset
from tinygan.errors import pasted
from tinygan.fast.originals import changed
from tinygan.gpu_errors import cupy_packages
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import Settings

BITS = (  # a change of any of these changes the last bits of a resumed run's results
    "device", "engine", "precision", "threads", "ranks", "step", "changed", "processor", "card",
    "CUDA libraries", "tinygan", "numpy", "blas", "cupy",
)  # fmt: skip


def versions(device: Backend | None = None) -> dict[str, str]:
    """The versions of everything that computes and draws on `device`, or of everything installed."""
    blas: Any = np.show_config(mode="dicts")
    used = {"cupy": device.xp.__version__} if device and device.device == "gpu" else {}
    return {
        "tinygan": tinygan.__version__, "python": platform.python_version(), "numpy": np.__version__,
        **(used if device else cupy_packages()),
        "blas": "{name} {version}".format(**blas["Build Dependencies"]["blas"]),
        "pillow": PIL.__version__, "imageio": imageio.__version__, "platform": platform.platform(),
    }  # fmt: skip


def configuration(
    arguments: Sequence[str], settings: Settings, device: Backend, images: Dataset, threads: int, how: str
) -> dict[str, Any]:
    """The configuration of a run that `train` starts with `arguments`; `how`: the kind of step, in words."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    data = {"name": images.name, "source": images.source, "sha256": images.sha256}
    return {
        "commands": [{"time": now, "command": pasted("python", "-m", "tinygan.train", *arguments)}],
        "settings": asdict(settings),
        "data": data | {"shape": list(images.images.shape)},
        "device": {
            "device": device.device, "engine": device.engine, "step": how.partition(":")[0],
            "changed": changed(), "precision": device.precision, "threads": threads,
            "ranks": device.ranks.size, "processor": machine.processor_name(), **device.card(),
        },
        "versions": versions(device),
    }  # fmt: skip


def reconfigure(
    run: RunFolder, before: dict[str, Any], config: dict[str, Any], changed: dict[str, list[Any]], step: int
) -> list[str]:
    """Replace the configuration `before` by `config`, and return warnings. The earlier commands stay, as do
    changes of settings up to this `step`; those in `changed`, name: [old, new], are added at this step."""
    had = config["settings"] | {name: was for name, (was, _) in changed.items()}  # before these changes
    last = {one["setting"]: one.get("to") for one in before["changes"] if one["step"] == step}
    lasting = {name for name, value in last.items() if had.get(name) == value}
    changes = [one for one in before["changes"] if one["step"] < step + (one["setting"] in lasting)]
    for name, (was, now) in changed.items():
        changes.append({"step": step, "setting": name, "from": was, "to": now})
    run.write_config(config | {"commands": [*before["commands"], *config["commands"]], "changes": changes})
    lines, usual = [], {"ranks": 1, "changed": []}
    was, now = ({**usual, **some["device"], **some["versions"]} for some in (before, config))
    for name in BITS:
        old, new = was.get(name), now.get(name)
        # Older versions did not record the kind of step, or named another file for the same kind.
        same = name == "step" and (old is None or str(old).partition(" (")[0] == str(new).partition(" (")[0])
        if old != new and not same:
            what = f"{name} changed from {old} to {new}"
            lines.append(f"warning: {what}: the run continues, but not bit for bit.")
    return lines
