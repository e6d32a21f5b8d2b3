"""LoID's plug-ins in a bench: pre-trained once on each source domain, before the cells that take them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from semacdr.bench.config import Plugins, slug
from semacdr.bench.identity import code_version
from semacdr.bench.prepare import Prepared, command
from semacdr.config import Settings, build, read_yaml, split_keys
from semacdr.files import fingerprint, read_json, write_text
from semacdr.models.recbole_own import OwnTraining, is_own, own_settings
from semacdr.models.registry import RATING_MODELS, model_class, rating_model_class
from semacdr.models.text_encoder import ADAPTER_CONFIG
from semacdr.progress import say
from semacdr.resources import find_config
from semacdr.run import RUN, run_is_done
from semacdr.training.plugins import MODEL
from semacdr.training.settings import RatingTrainSettings, TrainSettings

FOLDER = "plugins"


def settings_of(model: str, rating: bool) -> tuple[type[Settings], type[Settings]]:
    """The classes of a model's own settings and of its training's."""
    if is_own(model):
        return own_settings(model), OwnTraining
    if rating:
        return rating_model_class(model).Config, RatingTrainSettings
    return model_class(model).Config, TrainSettings


def plugin_settings(plugins: Plugins, target: str) -> dict[str, dict[str, Any]]:
    """Source domain -> the settings of its pre-training, checked; the target is no source of its own."""
    values = {**(read_yaml(find_config(plugins.config)) if plugins.config else {}), **plugins.settings}
    sources = {domain: {**values, "domain": domain} for domain in plugins.domains if domain != target}
    for settings in sources.values():
        _resolved(settings)
    return sources


def plugin_folders(sources: Mapping[str, Mapping[str, Any]], data: Prepared, out: Path) -> dict[str, Path]:
    """Source domain -> the folder of its plug-in; the name holds a fingerprint of all that it depends on."""
    code = code_version(RATING_MODELS[MODEL])
    prints = {
        domain: fingerprint({"dataset": data.fingerprint, "code": code, **_resolved(settings)})[:8]
        for domain, settings in sources.items()
    }
    return {domain: out / FOLDER / data.name / f"{slug(domain)}-{mark}" for domain, mark in prints.items()}


def pretrain(sources: Mapping[str, Mapping[str, Any]], data: Prepared, out: Path) -> None:
    """Pre-trains the plug-ins that are not there; one that was interrupted goes on."""
    for domain, folder in plugin_folders(sources, data, out).items():
        if (folder / ADAPTER_CONFIG).is_file():
            continue
        say(f"{data.name}: pre-training a plug-in on {domain}")
        settings = folder.with_name(f"{folder.name}.yaml")
        write_text(settings, yaml.safe_dump({k: v for k, v in sources[domain].items() if k != "domain"}))
        words = ["loid", "pretrain", "--dataset", str(data.folder), "--domain", domain]
        command([*words, "--config", str(settings), "--out", str(folder)])


def cost_path(folder: Path) -> Path:
    """Where a record puts what a plug-in cost whose folder is elsewhere: beside the place of the folder."""
    return folder.with_name(f"{folder.name}.json")


def plugin_note(folders: Mapping[str, Path]) -> str:
    """What the plug-ins cost, which no row of their taker counts."""
    paths = [folder / RUN if run_is_done(folder) else cost_path(folder) for folder in folders.values()]
    if not all(path.is_file() for path in paths):  # the takers came out of a record that does not know
        return f"plug-ins of {', '.join(folders)}, whose training is not counted"
    seconds = sum(read_json(path)["result"]["train_cpu_seconds"] for path in paths)
    return f"plug-ins of {', '.join(folders)}: {seconds:.0f} CPU s more"


def _resolved(settings: Mapping[str, Any]) -> dict[str, Any]:
    owners = settings_of(MODEL, rating=True)
    dealt = zip(("config", "training"), owners, split_keys(settings, *owners))
    return {name: build(cls, values, "settings of plug-ins").model_dump(mode="json") for name, cls, values in dealt}
