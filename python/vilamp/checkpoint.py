"""Weights in the published layout: found, checked against the model, and loaded, in that order.

Everything that can be wrong is known from the headers of the files, before a tensor is read. The
files are memory-mapped: a tensor that needs no change of dtype or device is not copied at all.
Only safetensors files are read; a pickle can run code and is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .config_fields import is_file, read_json, shown
from .errors import CheckpointError
from .finite import all_finite

DEFAULT_MODEL = Path(__file__).parent / "default_model"
"""The small model that comes with the package; `"default"` stands for it."""

# Published key prefix -> name in `vilamp.model.ViLAMP`. Names below the prefix are the same.
KEY_PREFIXES = (
    ("model.embed_tokens.", "language_model.model.embed_tokens."),
    ("model.layers.", "language_model.model.layers."),
    ("model.norm.", "language_model.model.norm."),
    ("lm_head.", "language_model.lm_head."),
    ("model.image_newline", "image_newline"),
    ("model.vision_tower.vision_tower.vision_model.", "vision_tower."),
    ("model.mm_projector.", "projector."),
    ("model.frame_selector.model.", "frame_selector."),
    ("model.composer_projector.", "composer_projector."),
)

# Tables that older software stored although they follow from the configuration.
_DERIVED_KEYS = re.compile(r"\.(position_ids|rotary_emb\.inv_freq)$")
_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"

_DTYPES = {"F64", "F32", "F16", "BF16"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_FILES = ("*.safetensors", "*.json", "*.txt")
_KEYS_SHOWN = 20
_LONGEST_KEY = 200
_LARGEST_HEADER = 16 << 20
"""Bytes; that of the published model has 200 kB."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and what it is, as the header of its file says."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """Name of safetensors: F32, F16, BF16, ..."""


def find_folder(path_or_hub_id: str | Path) -> Path:
    """The folder of a model: `"default"`, a folder of this machine, or a hub id, in that order.

    A hub id (`owner/name`) is downloaded into the hub's own cache: safetensors, JSON and text only.

    Raises:
        CheckpointError: none of the three, or the hub cannot be reached.
    """
    if path_or_hub_id == "default":
        return DEFAULT_MODEL
    if not isinstance(path_or_hub_id, str | os.PathLike):
        raise CheckpointError(
            f"the name of the model: wanted a folder or a hub id, got {shown(path_or_hub_id)}"
        )
    if not str(path_or_hub_id).strip():
        raise CheckpointError("the name of the model is empty: wanted a folder or a hub id")
    name = str(path_or_hub_id)
    try:
        folder = Path(path_or_hub_id).expanduser()
        if folder.is_dir():
            return folder
        if folder.exists():
            raise CheckpointError(f"{folder}: wanted a model folder, got a file")
    except (OSError, RuntimeError) as error:
        # A name too long, no permission, or the home of a user who is not there.
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{shown(name)}: no such model folder ({reason})") from error
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"{_on_one_line(name)}: no such model folder")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as error:
        # The hub's client raises errors of several libraries: offline, unknown, not allowed.
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{name}: no such model folder here, and the hub could not provide it ({reason})"
        ) from error


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Published key -> tensor, from the headers of `model.safetensors` or of its shards.

    Raises:
        CheckpointError: no weights, pickled weights only, a shard missing, damaged, outside the
            folder, or at odds with the index.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if is_file(single):
        return _read_header(single)
    if not is_file(index):
        pickles = sorted(p.name for kind in ("*.bin", "*.pt", "*.pth") for p in folder.glob(kind))
        if pickles:
            raise CheckpointError(
                f"{folder}: weights only as pickle ({pickles[0]}), which can run code and is not "
                "read; convert them to safetensors"
            )
        raise CheckpointError(
            f"{folder} has neither model.safetensors nor model.safetensors.index.json"
        )
    places = read_json(index).get("weight_map")
    if not isinstance(places, Mapping) or not places:
        raise CheckpointError(f"{index}: no weight_map")
    tensors: dict[str, StoredTensor] = {}
    for name in sorted({_shard_name(index, name) for name in places.values()}):
        tensors.update(_read_header(folder / name))
    unlisted = sorted(tensors.keys() - places.keys())
    absent = sorted(key for key in places if key not in tensors)
    moved = sorted(k for k in places if k in tensors and tensors[k].file.name != places[k])
    problems = _listed("not in the shards", absent) + _listed("not in the index", unlisted)
    problems += _listed("in another shard than the index says, or in two", moved)
    if problems:
        raise CheckpointError(f"{index}: " + "; ".join(problems))
    return tensors


def vocabulary_rows(tensors: Mapping[str, StoredTensor], default: int) -> int:
    """Rows of the embedding matrix as stored; the config's vocabulary can differ from it."""
    stored = tensors.get(_EMBEDDING)
    # A matrix without rows is found not to fit.
    return max(1, stored.shape[0]) if stored is not None and len(stored.shape) == 2 else default


def load_weights(
    model: nn.Module,
    tensors: Mapping[str, StoredTensor],
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    """Give every parameter of a model on the meta device its stored values.

    Each tensor is cast and moved by itself, so none exists twice. A parameter without dimensions
    stays fp32: it costs nothing, and the merging divides by one.

    Args:
        model: a `ViLAMP`, parameters on the meta device.
        tensors: from `stored_tensors`.
        dtype, device: of the parameters.
    Raises:
        CheckpointError: keys are missing, too many, of the wrong shape or not floats, or hold
            numbers that are not finite or overflow in `dtype`, all listed; or a file fails while
            it is read.
    """
    wanted = {published_key(name): name for name, _ in model.named_parameters()}
    stored = {key: tensor for key, tensor in tensors.items() if not _DERIVED_KEYS.search(key)}
    if _HEAD not in wanted:
        # Tied to the embedding, which is what counts when a file has both.
        stored.pop(_HEAD, None)
    _require_match({key: model.get_parameter(name) for key, name in wanted.items()}, stored)
    places = _places_of_parameters(model)
    finite: dict[str, Tensor] = {}
    for file in sorted({tensor.file for tensor in stored.values()}):
        try:
            with safe_open(file, framework="pt") as reader:
                for key in (key for key in wanted if stored[key].file == file):
                    values = reader.get_tensor(key)
                    kind = dtype if values.ndim else torch.float32
                    values = nn.Parameter(values.to(device=device, dtype=kind), False)
                    finite[key] = all_finite(values)
                    for module, leaf in places[wanted[key]]:
                        setattr(module, leaf, values)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file}: {error}") from error
    # Looked at together: on a GPU each look waits for the device.
    good = torch.stack(list(finite.values())).tolist()
    bad = [key for key, holds in zip(finite, good, strict=True) if not holds]
    _require_finite({key: stored[key] for key in bad}, dtype)


def published_key(name: str) -> str:
    """The key that a checkpoint has for a parameter of `ViLAMP`."""
    for published, ours in KEY_PREFIXES:
        if name.startswith(ours):
            return published + name[len(ours) :]
    raise KeyError(f"{name} has no place in the published layout")


def published_state(model: nn.Module) -> dict[str, Tensor]:
    """All weights of a `ViLAMP` under their published keys, ready to be saved as safetensors."""
    return {published_key(n): p.detach().contiguous() for n, p in model.named_parameters()}


def _read_header(file: Path) -> dict[str, StoredTensor]:
    if not is_file(file):
        raise CheckpointError(f"{file}: no such file")
    try:
        with file.open("rb") as start:
            size = int.from_bytes(start.read(8), "little")
        if size > _LARGEST_HEADER:
            raise SafetensorError(f"wanted a header of at most {_LARGEST_HEADER:,} bytes")
        with safe_open(file, framework="pt") as reader:
            slices = {key: reader.get_slice(key) for key in reader.keys()}  # noqa: SIM118
            return {
                key: StoredTensor(file, tuple(part.get_shape()), part.get_dtype())
                for key, part in slices.items()
            }
    except (SafetensorError, OSError, MemoryError) as error:
        # A file of terabytes cannot be mapped where addresses are limited.
        raise CheckpointError(f"{file}: not a complete safetensors file ({error})") from error


def _shard_name(index: Path, name: object) -> str:
    """A shard lies beside its index; any other name is refused before it is opened."""
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.-]{0,200}\.safetensors", name):
        raise CheckpointError(
            f"{index}: shard {shown(name)} is not the plain name of a safetensors file"
        )
    return name


def _require_match(wanted: Mapping[str, Tensor], stored: Mapping[str, StoredTensor]) -> None:
    common = sorted(wanted.keys() & stored.keys())
    shapes = [
        f"{key} {list(stored[key].shape)} instead of {list(wanted[key].shape)}"
        for key in common
        if stored[key].shape != tuple(wanted[key].shape)
    ]
    kinds = [f"{key} {stored[key].dtype}" for key in common if stored[key].dtype not in _DTYPES]
    problems = (
        _listed("missing", sorted(wanted.keys() - stored.keys()))
        + _listed("unknown", sorted(stored.keys() - wanted.keys()))
        + _listed("wrong shape", shapes)
        + _listed("not of a float dtype", kinds)
    )
    if problems:
        raise CheckpointError("weights do not fit config.json: " + "; ".join(problems))


def _require_finite(bad: Mapping[str, StoredTensor], dtype: torch.dtype) -> None:
    """Say of tensors that are not finite once loaded whether the file or the dtype is to blame."""
    if not bad:
        return
    name, largest = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    damaged, overflowing = [], []
    for key, tensor in sorted(bad.items()):
        with safe_open(tensor.file, framework="pt") as reader:
            values = reader.get_tensor(key)
        if all_finite(values):
            overflowing.append(f"{key} with numbers up to {float(values.abs().max()):.3g}")
        else:
            damaged.append(f"{key} {tensor.dtype}")
    problems = _listed("NaN or infinite in the file", damaged)
    problems += _listed(f"overflow in {name}, which ends at {largest:.3g}", overflowing)
    wider = {torch.float16: "try --dtype bf16", torch.bfloat16: "try --dtype fp32"}
    other = "use another copy of the model"
    advice = other if damaged else wider.get(dtype, other)
    raise CheckpointError(f"weights are not finite: {'; '.join(problems)}; {advice}")


def _listed(problem: str, items: list[str]) -> list[str]:
    if not items:
        return []
    more = f", and {len(items) - _KEYS_SHOWN} more" if len(items) > _KEYS_SHOWN else ""
    return [f"{problem}: " + ", ".join(map(_on_one_line, items[:_KEYS_SHOWN])) + more]


def _on_one_line(item: str) -> str:
    """A key is any text that the file has for one."""
    item = item if len(item) <= _LONGEST_KEY else f"{item[:_LONGEST_KEY]}..."
    return "".join(c if c.isprintable() else "?" for c in item)


def _places_of_parameters(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Where each parameter is held: in more than one place if it is tied."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    places: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in names.values()}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        module, _, leaf = path.rpartition(".")
        places[names[parameter]].append((model.get_submodule(module), leaf))
    return places
