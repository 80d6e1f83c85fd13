"""Noise schedules for the samplers of `diffusers`.

Networks are exported as they are, not as `diffusers`' own U-Net, which has no counterpart to our patches, positions in
attention and canvas. The schedulers of `diffusers` take the output of any network.
"""

import json
from pathlib import Path

from headrace.files import write_text
from headrace.models.schedule import STEPS
from headrace.recipe.objective import Diffusion


def save_scheduler(recipe: Diffusion, folder: str | Path) -> Path:
    """Write `scheduler_config.json`, with which any scheduler of `diffusers` samples as the functions here do.

    Load it with `DDIMScheduler.from_pretrained(folder)` or another class. Raises ValueError if the schedule or the
    prediction is not variance-preserving.
    """
    schedules: dict[str, dict[str, object]] = {
        "linear": {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    }
    predictions = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
    if recipe.schedule not in schedules:
        raise ValueError(f"schedule: found {recipe.schedule}, expected one of {', '.join(schedules)}")
    if recipe.prediction not in predictions:
        raise ValueError(f"prediction: found {recipe.prediction}, expected one of {', '.join(predictions)}")
    config = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": STEPS,
        "prediction_type": predictions[recipe.prediction],
        "timestep_spacing": "trailing",
        "clip_sample": False,
        **schedules[recipe.schedule],
    }
    path = Path(folder) / "scheduler_config.json"
    write_text(path, json.dumps(config, indent=2) + "\n")
    return path
