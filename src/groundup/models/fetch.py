"""Published checkpoints from a hub, when one asks for them: safetensors and the texts beside them, nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from groundup.core.errors import CheckpointError, MissingExtraError
from groundup.models.hugging_face import CONFIG, INDEX, SINGLE

WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "LICENSE*", "README.md")
"""What is taken of a published folder beside its weights; pickles (*.bin, *.pt) and code (*.py) never are."""

SHARDS = "model-*-of-*.safetensors"

NAME = re.compile(r"[\w.-]+/[\w.-]+")


def fetch(name: str, out: str | Path | None = None, revision: str | None = None) -> Path:
    """Download ``org/name`` into ``out``, by default ``models/name``; gives the folder, which ``read_folder`` reads.

    What was downloaded before is not downloaded again, and a broken download goes on where it stopped. HF_TOKEN and
    HF_ENDPOINT are honoured. Raises CheckpointError for a name that is not there or needs a licence to be accepted, a
    hub that cannot be reached, and a checkpoint without safetensors; MissingExtraError without huggingface_hub.
    """
    if not NAME.fullmatch(name):
        raise CheckpointError(f"fetch: read {name!r}, expected org/name, such as Qwen/Qwen3-0.6B.")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise MissingExtraError("fetch needs huggingface_hub: pip install 'groundup[hub]'.") from error
    folder = Path(out) if out is not None else Path("models") / name.partition("/")[2]
    endpoint = os.environ.get("HF_ENDPOINT")
    try:
        about = hub.HfApi(endpoint=endpoint).model_info(name, revision=revision)
        files = [file.rfilename for file in about.siblings or []]
        _demand_safetensors(name, files)
        weights = SINGLE if SINGLE in files else SHARDS  # not the same weights twice, in another layout
        hub.snapshot_download(
            name, revision=revision, local_dir=folder, allow_patterns=[weights, *WANTED], endpoint=endpoint
        )
    except CheckpointError:
        raise
    except hub.errors.GatedRepoError as error:
        raise CheckpointError(
            f"{name}: its owner asks for a licence to be accepted. Accept it on the model's page, make a token there, "
            f"and set HF_TOKEN to it. ({_first_line(error)})"
        ) from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        said = f" at revision {revision!r}" if revision else ""
        raise CheckpointError(
            f"{name}: the hub has no such model{said}, or it is private (then set HF_TOKEN). ({_first_line(error)})"
        ) from error
    except Exception as error:  # its kinds for a network that fails differ from version to version
        raise CheckpointError(
            f"{name}: the hub cannot be reached or broke off: {_first_line(error)}. Try again: what is there is kept. "
            f"Without a network, copy the model's folder here and name it: {folder}"
        ) from error
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{name}: has no {CONFIG}, which says what the model is; it lies in {folder}.")
    return folder


def _demand_safetensors(name: str, files: Sequence[str]) -> None:
    if SINGLE in files or INDEX in files:
        return
    weights = [
        file for file in files if file.endswith((".bin", ".pt", ".pth", ".gguf", ".h5", ".onnx", ".safetensors"))
    ]
    raise CheckpointError(
        f"{name}: has neither {SINGLE} nor {INDEX}"
        + (f", only {', '.join(weights[:3])}" if weights else " nor any other weights")
        + ". Pickled weights are not downloaded; look for a conversion of this model (often in its pull requests, "
        "revision='refs/pr/N'), or download the file yourself and run: groundup convert FILE ..."
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
