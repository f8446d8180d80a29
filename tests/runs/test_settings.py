"""Settings of a resumed run: which ones an older checkpoint may lack, and which ones it may not."""

from dataclasses import asdict

import pytest

from tinygan.errors import CheckpointError
from tinygan.runs.settings import DESCRIBED, RECIPES, Settings, new_settings, resumed_settings


def test_a_checkpoint_from_before_a_setting_existed_has_its_default():
    added = [name for name, known in DESCRIBED.items() if known.metadata["added"]]
    saved = {name: value for name, value in asdict(Settings(lr=3e-4)).items() if name not in added}
    assert len(saved) < len(asdict(Settings()))
    assert resumed_settings(saved, {}, "run") == Settings(lr=3e-4)


def test_an_older_run_of_a_recipe_keeps_its_own_values():
    saved = asdict(Settings(recipe="best", batch_size=64, lr=8e-4, lr_d=4e-4, beta1=0.0, average=0.999))
    del saved["penalty"], saved["dropout"]
    found = resumed_settings(saved, {"recipe": "best", "epochs": 120}, "run")
    assert (found.batch_size, found.penalty, found.dropout, found.epochs) == (64, 0, 0.3, 120)


@pytest.mark.parametrize("change", [{"lr": None}, {"colour": "red"}])
def test_a_setting_that_is_missing_or_unknown_is_named(change):
    saved = asdict(Settings()) | change
    saved = {name: value for name, value in saved.items() if value is not None or name not in change}
    with pytest.raises(CheckpointError, match=next(iter(change))):
        resumed_settings(saved, {}, "run")


def test_what_one_command_leaves_out_is_not_left_out_for_ever():
    saved = asdict(Settings(steps=7, no_gif=True, no_report=True))
    assert resumed_settings(saved, {}, "run") == Settings()
    assert resumed_settings(saved, {"no_gif": True}, "run") == Settings(no_gif=True)


def test_the_seed_recipe_has_exactly_the_settings_of_the_tutorial():
    for settings in (new_settings({}), new_settings({"recipe": "seed"})):
        assert (settings.epochs, settings.batch_size, settings.noise_dim) == (100, 256, 100)
        assert (settings.lr, settings.lr_d, settings.beta1, settings.beta2) == (1e-4, None, 0.9, 0.999)
        assert settings.average == 0 and settings.checkpoint_every == 20


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_may_be_changed_in_one_value(recipe):
    plain, changed = new_settings({"recipe": recipe}), new_settings({"recipe": recipe, "beta1": 0.3})
    assert asdict(changed) == asdict(plain) | {"beta1": 0.3} and plain.recipe == recipe


def test_recipes_are_those_that_were_measured():
    """A resumed run keeps its values; a new one gets these, for which README gives figures."""
    assert RECIPES == {
        "seed": {"batch_size": 256, "lr": 1e-4, "beta1": 0.9},
        "quick": {"batch_size": 64, "lr": 2e-4, "beta1": 0.5},
        "best": {
            "batch_size": 32, "lr": 8e-4, "lr_d": 4e-4, "beta1": 0.0, "beta2": 0.99, "average": 0.999,
            "penalty": 1.0, "dropout": 0.0,
        },
    }  # fmt: skip
