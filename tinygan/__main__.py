"""``python -m tinygan``: the list of commands."""

COMMANDS = {
    "train": "train the DCGAN: pictures, checkpoints, statistics, an animation",
    "sample": "make new pictures with a trained generator",
    "evaluate": "measure how good its pictures are: distance, precision, recall, coverage",
    "explain": "a training step in words, or every layer in numbers, or one of them",
    "gradcheck": "check every gradient against finite differences",
    "export": "write the generator as ONNX, or the weights as safetensors",
    "report": "put what there is to see of a run on one page: samples, curves, the generator itself",
}

if __name__ == "__main__":
    for name, purpose in COMMANDS.items():
        print(f"python -m tinygan.{name:<9} {purpose}")
