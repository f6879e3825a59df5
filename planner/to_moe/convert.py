"""Converting a dense model to a mixture of experts on disk, with proof that they agree."""

import json
import re
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from evaluators.collectors.mlp_inputs import mlp_inputs
from evaluators.data.model_samples import from_model
from evaluators.data.text_samples import TextSource, Vocabulary, from_text
from evaluators.data.windows import Calibration, Windows
from evaluators.runtime.allocator import release_pages
from planner.export.cards.card_parts import head, named_text, origin_text
from planner.export.cards.manifest import File, describe_files
from planner.export.cards.markdown import code, escaped
from planner.export.cards.origin import Origin
from planner.export.pipeline import Job, Staged, export_proved
from planner.export.reference import reference_of
from planner.export.staging import check_vacant
from planner.preparation.calibration import check_window
from planner.runs.environment import describe_environment
from planner.settings.to_moe import ToMoeSettings
from planner.targets.hf.belongings import files_of
from planner.targets.hf.hf_target import HfTarget, write_assembled
from planner.targets.hf.model_folder import CutModel
from planner.targets.target import Target, Written
from search_spaces.models.fingerprint import lasting
from search_spaces.models.identity import ModelIdentity
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.moefication.qwen2_moe import (
    MLP,
    check_splittable,
    gated_mlp,
    mixture_config,
    mixture_model,
    mixture_weights,
    scaled_router,
)
from search_spaces.moefication.split import Shape, split_mlp
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.reading.read import check_exportable
from search_spaces.structure.backbone import Backbone

_CARD = """\
# {title}, split into experts

Each MLP of {source} as {experts} experts of {channels} channels and a shared one of {shared},
by compression-planner, without training: channels were clustered by their activations on
{tokens:,} tokens of {text}, and the router fitted by ridge regression. {active} experts run for a
token, which makes {share:.0%} of the channels; with all of them (`num_experts_per_tok={experts}`)
the model computes what the dense one does: logits differ by at most {gap:.1e} (allowed:
{allowed:.1e}).

{loading}
{origin}

`manifest.json` records how it was made.
"""


class SplitManifest(BaseModel):
    """What a split model is, what it was made from, and what was proved of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    settings: ToMoeSettings
    model: ModelIdentity
    """The dense one."""
    origin: Origin = Origin()
    """What that says of its licence and its base."""
    tokenizer_needs_remote_code: bool = False
    """Whether loading the tokenizer takes ``trust_remote_code=True``."""
    requires: str = ""
    """Versions of transformers that read it as meant; empty: all that know its family."""
    loading: str
    """How it is loaded, in Markdown."""
    shared: int
    """Channels of the shared expert of each layer."""
    channels: int
    """Of each other expert."""
    active: int
    """Experts that run for a token."""
    text: str
    """Source of the calibration text."""
    tokens: int
    """Of the calibration text."""
    logit_gap: float
    """Largest difference from the dense model's logits, with all experts running."""
    cache_gap: float
    """Largest difference between its logits with a cache and without."""
    logit_gap_allowed: float
    seconds: float
    """Spent on the split, without loading and proof."""
    files: dict[str, File]
    environment: dict[str, object]

    @property
    def share(self) -> float:
        """Share of the channels that run for a token."""
        width = self.shared + self.settings.experts * self.channels
        return (self.shared + self.active * self.channels) / width

    def card(self) -> str:
        """Return the text of ``README.md``."""
        name = Path(self.settings.model).name
        return head(self.origin, ["mixture-of-experts"]) + _CARD.format(
            title=escaped(name),
            source=code(name),
            text=named_text(self.text),
            loading=self.loading,
            origin=origin_text(self.origin),
            experts=self.settings.experts,
            channels=self.channels,
            shared=self.shared,
            active=self.active,
            tokens=self.tokens,
            share=self.share,
            gap=self.logit_gap,
            allowed=self.logit_gap_allowed,
        )


def convert_to_moe(
    settings: ToMoeSettings, out: Path, *, progress: Progress = NO_PROGRESS
) -> Path:
    """Split each MLP of a dense model into experts, and write a stock Qwen2-MoE.

    This computes in float32 on the CPU. The folder gets its name once the written model has been
    loaded again and, with all experts running, gives the dense model's logits.

    Args:
        settings: Which model to split, and how.
        out: The folder to make.
        progress: Receives stages and progress.

    Returns:
        The folder, as a client would load it.

    Raises:
        ModelError: If the model cannot be loaded, or no stock mixture of experts can hold it.
        SettingsError: If its channels cannot be divided as the settings say.
        DataError: If the text cannot be used.
        OutputError: If the folder exists or cannot be written.
        VerificationError: If the split does not compute what the dense model does.
    """
    check_vacant(out, settings.model)
    progress.stage(f"loading {settings.model}")
    dense = load_model(
        settings.model, dtype=torch.float32, trust_remote_code=settings.trust_remote_code
    )
    check_exportable(dense.model)
    check_splittable(dense.model)
    shape = Shape.of(dense.model.config.intermediate_size, settings.experts, settings.shared)
    calibration = _calibrate(dense, settings, progress)
    started = time.monotonic()
    mixture = _mixture(dense, shape, calibration.statistics, settings, progress)
    seconds = time.monotonic() - started
    source = files_of(dense.source)
    target = HfTarget()

    def write(_: Target, folder: Path) -> Written:
        return write_assembled(folder, mixture, dense, source)

    def describe(staged: Staged) -> tuple[str, str]:
        manifest = SplitManifest(
            settings=settings,
            model=dense.identity,
            origin=Origin.of(settings.model, source),
            tokenizer_needs_remote_code=staged.written.tokenizer_needs_remote_code,
            requires=staged.written.requires,
            loading=staged.written.loading,
            shared=shape.shared,
            channels=shape.channels,
            active=settings.active or shape.experts,
            text=calibration.source,
            tokens=calibration.statistics.numel(),
            logit_gap=staged.proof.logit_gap,
            cache_gap=staged.proof.cache_gap,
            logit_gap_allowed=staged.proof.allowed,
            seconds=seconds,
            files=describe_files(staged.folder),
            environment=describe_environment(device="cpu", seed=settings.seed),
        )
        return manifest.card(), manifest.model_dump_json(indent=1) + "\n"

    @torch.inference_mode()
    def follow(tokens: Tensor) -> Tensor:
        logits: Tensor = dense.model(tokens, use_cache=False).logits
        return logits

    job = Job(
        target=target,
        write=write,
        weight_bytes=sum(weight.nbytes for weight in mixture.weights.values()),
        reference=reference_of(follow, dense.model),
        follow=follow,
        threads=torch.get_num_threads(),
        stage_for_proof=_with_all_experts,
    )
    export_proved(job, out, describe, progress)
    release_pages()
    return out


def _calibrate(dense: LoadedModel, settings: ToMoeSettings, progress: Progress) -> Calibration:
    check_window(dense.model, settings.window_tokens)
    windows = Windows(statistics=settings.calibration_windows, tokens=settings.window_tokens)
    if settings.data is None:
        progress.stage("sampling calibration text from the model")
        return from_model(dense.model, windows, seed=settings.seed, progress=progress)
    progress.stage(f"reading {settings.data}")
    source = TextSource(data=settings.data, split=settings.split, column=settings.column)
    vocabulary = Vocabulary.of(dense.model, dense.tokenizer)
    rng = np.random.default_rng(settings.seed)
    return from_text(source, vocabulary, windows, rng=rng)


def _mixture(
    dense: LoadedModel,
    shape: Shape,
    windows: Tensor,
    settings: ToMoeSettings,
    progress: Progress,
) -> CutModel:
    """Return the split model."""
    backbone = Backbone(dense.model)
    rng = np.random.default_rng(settings.seed)
    mixtures: list[dict[str, Tensor]] = []
    progress.stage("splitting")
    for index, inputs in mlp_inputs(backbone, windows, MLP):
        mlp = gated_mlp(backbone.layers[index])
        split = split_mlp(mlp, inputs, shape, rng)
        weights = mixture_weights(mlp, split, scaled_router(split.router, inputs))
        name = f"model.layers.{index}.{MLP}.gate_proj.weight"
        dtype = dense.stored.of(name, dense.model.get_parameter(name))
        mixtures.append({path: weight.to(dtype) for path, weight in weights.items()})
        progress.advance(index + 1, len(backbone.layers))
    config = mixture_config(dense.model, shape, settings.active or shape.experts)
    mixture = mixture_model(dense.model, config, mixtures)
    weights = lasting(mixture)
    return CutModel(
        weights=weights,
        dense_names={
            name: re.sub(rf"\.{MLP}\..*", f".{MLP}.gate_proj.weight", name) for name in weights
        },
        config=mixture.config.to_dict(),
        model_class=type(mixture),
        stock=mixture.config,
    )


def _with_all_experts(folder: Path, scratch: Path) -> Path:
    """Return a split model that runs all experts for every token: links, but for its config."""
    whole = scratch / "with-all-experts"
    whole.mkdir()
    for path in folder.iterdir():
        (whole / path.name).symlink_to(path.absolute())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["num_experts_per_tok"] = config["num_experts"]
    (whole / "config.json").unlink()
    (whole / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return whole
