"""The command `sample`: its pictures, their formats and file names."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands import RUN, TINY, fails, tinygan, works
from tinygan.errors import UsageError
from tinygan.evaluation.classifier import class_called, features_and_classes, load_classifier
from tinygan.runs.state import pictures_of, sample_noise
from tinygan.sample import parser, seeds
from tinygan.trained import Trained, load
from tinygan.views import animation
from tinygan.views.pictures import grid, read_picture, save_png, tiles, to_uint8


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in `RUN` whose pictures differ, and fall into several classes."""
    cwd = tmp_path_factory.mktemp("trained")
    works("train", *TINY, "--epochs", 10, "--lr", 0.03, "--no-gif", "--no-report", cwd=cwd)
    return cwd


@pytest.fixture(scope="module")
def trained(cwd: Path) -> Trained:
    return load(cwd / RUN, device="cpu", engine="readable")  # the commands use the fast engine


def made_of(trained: Trained, seed: int, n: int) -> np.ndarray:
    """The pictures of a seed, (n, H, W, C) float32."""
    return pictures_of(trained.G, sample_noise(seed, n, trained.G))


def written(cwd: Path, *arguments: object) -> tuple[str, str]:
    """The first lines that `sample` prints, and the name of the file it wrote into the run's folder."""
    printed = works("sample", *arguments, cwd=cwd).stdout.partition("\nD on the first picture")[0]
    *said, line = printed.strip().splitlines()
    folder, name = line.rsplit(": ", 1)[1].rstrip("/").rsplit("/", 1)
    assert folder == RUN.as_posix() and (cwd / RUN / name).exists()
    return "\n".join([*said, line]), name


def test_file_names_contain_the_options_that_determine_the_pictures(cwd: Path) -> None:
    names = {}
    for options, expected in (
        (("--num", 4), "samples_epoch_0010_seed_1_num_4.png"),
        (("--num", 3), "samples_epoch_0010_seed_1_num_3.png"),
        (("--num", 3, "--seed", 5), "samples_epoch_0010_seed_5_num_3.png"),
        (("--num", 3, "--separate"), "samples_epoch_0010_seed_1_num_3"),
        (("--num", 3, "--grid", "1x3"), "samples_epoch_0010_seed_1_num_3_1x3.png"),
        (("--seeds", "0-2,7"), "samples_epoch_0010_seeds_0-2,7.png"),
        (("--best", 2, "--num", 9), "samples_epoch_0010_seed_1_num_9_best_2.png"),
        (("--num", 3, "--truncation", 0.5), "samples_epoch_0010_seed_1_num_3_truncation_0.5.png"),
        (("--num", 2, "--through-training"), "through_training_epoch_0010_seed_1_num_2.png"),
    ):
        _, names[options] = written(cwd, *options)
        assert names[options] == expected
    assert len({*names.values()}) == len(names)


def test_other_pictures_in_the_folder_are_refused(cwd: Path, tmp_path: Path) -> None:
    def separate(*options: object) -> tuple[object, ...]:
        return "--separate", "--out", tmp_path / "new", *options

    works("sample", *separate("--num", 3), cwd=cwd)
    before = (tmp_path / "new/0.png").read_bytes()
    works("sample", *separate("--num", 4), cwd=cwd)  # overwrites all of them
    (tmp_path / "new/notes.txt").write_text("not a picture")
    for options in (("--num", 3, "--seed", 7), ("--num", 11), ("--seeds", "0-3")):
        result = tinygan("sample", *separate(*options), cwd=cwd)
        fails(result, 2, "other picture", ".png", "Name a new folder with --out")
    assert (tmp_path / "new/0.png").read_bytes() == before and len([*(tmp_path / "new").iterdir()]) == 5


def test_each_seed_gives_a_picture_in_the_given_order(cwd: Path, trained: Trained, tmp_path: Path) -> None:
    works("sample", "--seeds", "3,0-1", "--separate", "--out", tmp_path / "each", cwd=cwd)
    assert {path.name for path in (tmp_path / "each").iterdir()} == {f"seed_000{n}.png" for n in (0, 1, 3)}
    works("sample", "--seeds", "3,0-1", "--out", tmp_path / "all.png", cwd=cwd)
    expected = [to_uint8(made_of(trained, seed, 1)[0]) for seed in (3, 0, 1)]
    assert (read_picture(tmp_path / "all.png") == grid(np.stack(expected))).all()
    assert (read_picture(tmp_path / "each/seed_0003.png") == expected[0]).all()


@pytest.mark.parametrize("which", [("--num", 3, "--seed", 7), ("--seeds", "7-9"), ("--best", 3, "--num", 3)])
def test_truncation_scales_the_noise(
    cwd: Path, trained: Trained, tmp_path: Path, which: tuple[object, ...]
) -> None:
    works("sample", *which, "--truncation", 0.5, "--out", tmp_path / "safe.npy", cwd=cwd)
    noise = trained.noise(seed=[7, 8, 9]) if "--seeds" in which else trained.noise(3, seed=7)
    if "--best" in which:
        noise = trained.noise(3, seed=trained.settings.seed + 1)
        noise = noise[np.argsort(-trained.logits(pictures_of(trained.G, noise / 2)), kind="stable")]
    assert np.allclose(np.load(tmp_path / "safe.npy"), pictures_of(trained.G, noise / 2), atol=1e-5)


def test_an_invalid_truncation_is_refused(cwd: Path, tmp_path: Path) -> None:
    for wrong in (0, -1, 1.5, "nan"):
        fails(tinygan("sample", f"--truncation={wrong}", cwd=cwd), 2, f"--truncation {float(wrong)} must be")
    np.save(tmp_path / "noise.npy", np.zeros((1, 5)))
    save_png(tmp_path / "it.png", np.zeros((8, 8, 1), np.uint8))
    for own in (("--noise", tmp_path / "noise.npy"), ("--like", tmp_path / "it.png")):
        result = tinygan("sample", *own, "--truncation", 0.5, cwd=cwd)
        fails(result, 2, "leave it out with --noise and --like")


def test_lists_of_seeds_are_parsed_in_every_notation() -> None:
    assert seeds("5")[1] == [5] and seeds("0-2,7,4-4") == ("seeds_0-2,7,4-4", [0, 1, 2, 7, 4])
    long = [seeds(",".join(map(str, range(first, 400, 2)))) for first in (0, 1)]
    assert long[0][1] == [*range(0, 400, 2)] and long[0][0] != long[1][0] and len(long[0][0]) < 100
    for wrong in ("", ",", "1-", "-1", "3-1", "a", "1,,2", "0-99999999999", "\u0663"):
        with pytest.raises(Exception, match="not a list of seeds"):
            parser().parse(["--seeds=" + wrong])


def test_each_row_of_a_noise_file_gives_a_picture(cwd: Path, trained: Trained, tmp_path: Path) -> None:
    file = tmp_path / "my noise.npy"
    noise = trained.noise(3, seed=8)
    np.save(file, noise.astype(np.float64))
    _, name = written(cwd, "--noise", file)
    assert re.fullmatch(r"samples_epoch_0010_noise_my-noise_[0-9a-f]{8}.png", name)
    assert (read_picture(cwd / RUN / name) == grid(pictures_of(trained.G, noise))).all()
    np.save(file, noise[0])  # a single vector
    works("sample", "--noise", file, "--format", "npy", "--out", tmp_path / "one.npy", cwd=cwd)
    assert np.allclose(np.load(tmp_path / "one.npy"), pictures_of(trained.G, noise[:1]), atol=1e-6)


def test_invalid_noise_is_refused_with_one_line(cwd: Path, tmp_path: Path) -> None:
    file = tmp_path / "noise.npy"
    for content, code, words in (
        (np.zeros((2, 7)), 2, "has the shape (2, 7). This generator needs (N, 5)."),
        (np.full((2, 5), np.inf), 2, "not finite"), (np.array([["a"] * 5]), 2, "not an array of numbers"),
        (np.array([None]), 4, "cannot be read"), (np.zeros((2, 2, 5)), 2, "has the shape (2, 2, 5)"),
        (np.zeros((0, 5)), 2, "shape (0, 5)"),
    ):  # fmt: skip
        np.save(file, content, allow_pickle=True)
        fails(tinygan("sample", "--noise", file, cwd=cwd), code, "--noise", words)
    file.write_bytes(b"not an array")
    fails(tinygan("sample", "--noise", file, cwd=cwd), 4, f"--noise {file} cannot be read")
    fails(tinygan("sample", "--noise", tmp_path / "gone.npy", cwd=cwd), 4, "No such file")
    np.save(file, np.zeros((2, 5)))
    fails(tinygan("sample", "--noise", file, "--num", 4, cwd=cwd), 2, "--noise already selects the pictures")
    fails(tinygan("sample", "--noise", file, "--seeds", 4, cwd=cwd), 2, "not allowed with argument --noise")


def test_a_picture_like_a_given_one_is_found(cwd: Path, trained: Trained, tmp_path: Path) -> None:
    wanted = to_uint8(made_of(trained, 8, 1)[0])
    large = Image.fromarray(wanted[:, :, 0]).resize((56, 56), Image.Resampling.NEAREST).convert("RGB")
    large.crop((-20, 0, 76, 56)).save(tmp_path / "my own.png")  # its centre square is the picture
    like = "--like", tmp_path / "my own.png", "--seed", 3
    said, name = written(cwd, *like)
    assert re.fullmatch(r"samples_epoch_0010_like_my-own_[0-9a-f]{8}_seed_3.png", name)
    after, before = map(int, re.findall(r"(?:by|down from) (\d+)", said))
    assert after < before / 2
    given, found = tiles(read_picture(cwd / RUN / name), 2, 28, 28).astype(float)
    assert np.sqrt(((given - found) ** 2).mean()) == pytest.approx(after, abs=0.5)
    assert np.sqrt(((wanted - found) ** 2).mean()) < 3  # closer than the resized picture in the file
    works("sample", *like, "--out", tmp_path / "it.npy", cwd=cwd)
    assert (to_uint8(np.load(tmp_path / "it.npy")) == found).all()
    assert written(cwd, *like[:2], "--seed", 4)[1] != name


def test_an_invalid_picture_for_like_is_refused_with_one_line(cwd: Path, tmp_path: Path) -> None:
    file = tmp_path / "it.png"
    save_png(file, np.zeros((5, 9, 3), np.uint8))
    whole = file.read_bytes()
    for options in (("--num", 2), ("--class", 1), ("--best", 1)):
        words = "--like already selects the pictures. Leave"
        fails(tinygan("sample", "--like", file, *options, cwd=cwd), 2, words)
    fails(tinygan("sample", "--like", file, "--seeds", 4, cwd=cwd), 2, "not allowed with argument")
    for content, words in ((b"", "cannot identify"), (whole[:45], "truncated"), (b"text", "cannot identify")):
        file.write_bytes(content)
        fails(tinygan("sample", "--like", file, cwd=cwd), 4, f"cannot read {file}: ", words)
    fails(tinygan("sample", "--like", tmp_path / "gone.png", cwd=cwd), 4, "No such file")


def test_the_best_are_those_that_d_scores_highest(cwd: Path, trained: Trained, tmp_path: Path) -> None:
    out = ("--format", "npy", "--out", tmp_path / "best.npy")
    printed = works("sample", "--best", 5, "--num", 300, *out, cwd=cwd).stdout
    assert "5 of 300 pictures, chosen by D's score: " in printed
    pictures = made_of(trained, 1, 300)
    order = np.argsort(-trained.logits(pictures))[:5]
    assert np.allclose(np.load(tmp_path / "best.npy"), pictures[order], atol=1e-5)


def test_a_class_is_selected_by_the_classifier(cwd: Path, trained: Trained, tmp_path: Path) -> None:
    """In order, or with --best those that D scores highest."""
    pictures = made_of(trained, 1, 640)
    _, classes = features_and_classes(load_classifier("strokes"), to_uint8(pictures))
    kind = int(np.bincount(classes).argmax())
    of_class = pictures[classes == kind]
    best = of_class[np.argsort(-trained.logits(of_class))[:3]]
    for options, expected in ((("--num", 20), of_class[:20]), (("--best", 3, "--num", 640), best)):
        printed = works("sample", "--class", kind, *options, "--out", tmp_path / "a.npy", cwd=cwd).stdout
        assert f"chosen by the classifier ({kind})" in printed and "cannot be asked for a class" in printed
        assert np.allclose(np.load(tmp_path / "a.npy"), expected, atol=1e-4)


def test_a_class_with_too_few_pictures(cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_sevens(classifier: object, images: np.ndarray) -> tuple[None, np.ndarray]:
        return None, np.array([7, 7, *[0] * (len(images) - 2)])

    monkeypatch.setattr("tinygan.sample.features_and_classes", two_sevens)
    few = ("--num", 20, "--separate", "--out", tmp_path / "few")
    assert "6 of 640 pictures (20 wanted), chosen" in works("sample", "--class", 7, *few, cwd=cwd).stdout
    assert len([*(tmp_path / "few").iterdir()]) == 6
    works("sample", "--num", 7, "--separate", "--out", tmp_path / "few", cwd=cwd)
    fails(tinygan("sample", "--class", 7, *few, cwd=cwd), 2, "contains 1 other picture, such as 6.png")
    fails(tinygan("sample", "--class", 8, cwd=cwd), 2, "recognises none of 512 pictures as '8'")
    walks = ("--num", 2, "--grid", "2x2", "--interpolate", 2)
    fails(tinygan("sample", "--class", 7, *walks, cwd=cwd), 2, "4 walks need 2 pictures each; found 2.")


def test_classes_have_names_and_numbers() -> None:
    for name in ("ankle boot", "Ankle-Boot", "9"):
        assert class_called(name, "fashion-mnist") == "ankle boot"
    assert class_called("t-shirt/top", "fashion-mnist") == "T-shirt/top"
    assert class_called("boot", "fashion-mnist") == "ankle boot"
    assert class_called("shirt", "fashion-mnist") == "shirt"  # also a part of another name
    for name in ("boat", "er"):  # the part of several
        with pytest.raises(UsageError, match=f"'{name}' in fashion-mnist.* Use one of: T-shirt/top, "):
            class_called(name, "fashion-mnist")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--class boat", "0, 1, 2"), ("--class=", "it is empty"), ("--best 0", "--best 0 is less than 1"),
        ("--best 5 --num 4", "--best 5 is more than --num 4"), ("--best 17 --grid 4x4", "into --grid 4x4"),
        ("--seeds 0-3 --num 4", "Leave out --num"), ("--seeds 0-16 --grid 4x4", "17 pictures do not fit"),
        ("--separate --out x.png", "x.png names a file"),
        ("--seeds 4-2", "not a list of seeds"), ("--grid 2x2 --through-training", "not allowed with"),
        ("--num 400 --interpolate 20", "8,000 frames are more than 3,000"),
        ("--out x.mp4 --interpolate 5", "-m pip install imageio-ffmpeg, or name a .gif"),
    ],
)  # fmt: skip
def test_options_that_contradict_each_other_are_refused_with_one_line(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
) -> None:
    monkeypatch.setattr("tinygan.sample.endings", lambda: [".gif"])
    fails(tinygan("sample", *arguments.split(), cwd=cwd), 2, words)


def test_a_class_needs_a_classifier(tmp_path: Path) -> None:
    works("train", *TINY, "--size", 32, "--steps", 0, "--no-gif", "--no-report", cwd=tmp_path)
    result = tinygan("sample", "--class", 3, cwd=tmp_path)
    fails(result, 2, "no classifier for pictures of 32x32x1", "28x28x1")


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_a_walk_loops_through_its_pictures(cwd: Path, trained: Trained, tmp_path: Path, ending: str) -> None:
    if ending not in animation.endings():
        pytest.skip("this Pillow writes no animated WebP")
    path = tmp_path / f"walk{ending}"
    works("sample", "--num", 3, "--interpolate", 4, "--out", path, cwd=cwd)
    ends = to_uint8(made_of(trained, 1, 3))
    with Image.open(path) as film:
        assert film.size == (448, 448) and film.info["loop"] == 0 and getattr(film, "n_frames", 1) == 12
        for number, picture in enumerate(ends):
            film.seek(4 * number)
            found = np.array(film.convert("L")).reshape(28, 16, 28, 16).mean(axis=(1, 3))
            assert film.info["duration"] == 50
            assert np.abs(found - picture[..., 0]).mean() < 5


def test_each_place_of_a_grid_has_a_separate_walk(cwd: Path, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "walks.gif"
    printed = works("sample", "--grid", "1x2", "--num", 3, "--interpolate", 4, "--out", path, cwd=cwd).stdout
    assert "2 walks, each through 3 noise vectors" in printed
    ends = to_uint8(made_of(trained, 1, 6))[..., 0]
    with Image.open(path) as film:
        scale = film.height // 28
        for number in range(3):
            film.seek(4 * number)
            found = np.array(film.convert("L"))[::scale, ::scale]
            assert np.abs(found[:, :28].astype(int) - ends[number]).max() < 8
            assert np.abs(found[:, 29:].astype(int) - ends[3 + number]).max() < 8


def test_a_walk_uses_the_first_available_format(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for first in (".mp4", ".gif"):
        monkeypatch.setattr("tinygan.sample.endings", lambda first=first: [first])
        monkeypatch.setattr("tinygan.sample.write_animation", lambda path, *rest: path.write_bytes(b""))
        said, name = written(cwd, "--num", 2, "--interpolate", 3)
        assert name == f"interpolation_epoch_0010_seed_1_num_2_frames_3{first}"
        assert said.startswith("2 noise vectors, 3 frames between neighbours: ")
