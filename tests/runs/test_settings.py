"""Settings of a run that goes on: what an older checkpoint may lack, and what it may not."""

from dataclasses import asdict

import pytest

from tinygan.errors import CheckpointError
from tinygan.runs.settings import ADDED, Settings, resumed_settings


def test_a_checkpoint_from_before_a_setting_existed_has_its_default():
    saved = {name: value for name, value in asdict(Settings(lr=3e-4)).items() if name not in ADDED}
    assert len(saved) < len(asdict(Settings()))
    assert resumed_settings(saved, {}, "run") == Settings(lr=3e-4)


@pytest.mark.parametrize("change", [{"lr": None}, {"colour": "red"}])
def test_a_setting_that_is_missing_or_unknown_is_named(change):
    saved = asdict(Settings()) | change
    saved = {name: value for name, value in saved.items() if value is not None or name not in change}
    with pytest.raises(CheckpointError, match=next(iter(change))):
        resumed_settings(saved, {}, "run")


def test_what_a_command_leaves_out_is_not_left_out_for_ever():
    saved = asdict(Settings(steps=7, no_gif=True, no_report=True))
    assert resumed_settings(saved, {}, "run") == Settings()
    assert resumed_settings(saved, {"no_gif": True}, "run") == Settings(no_gif=True)
