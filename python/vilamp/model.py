"""ViLAMP as a module: question and frames in, answer out.

    frames --CLIP-------------> embed_frames    \\
    question --CLIP-----------> embed_question  --> select: which frames are keyframes
    frames --SigLIP, projector-> patches
        keyframes ------------> keyframe_tokens: the patch grid, halved
        other frames ---------> merge: one token each
    tokens in time order + prompt --> assemble --> decode: the answer

`embed` and `generate` run all of it on frames in memory. `vilamp.session` runs the same building
blocks on a video of any length, as a stream.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from . import checkpoint, inputs, preprocess, tokenizers
from . import keyframes as keyframe_rules
from .config import ViLAMPConfig
from .config_files import tower_folder
from .errors import CheckpointError, InputError
from .generate import PREFILL_CHUNK, Generation, decode
from .keyframes import Selection
from .merging import ComposerProjector, visual_sequence
from .mergings import SIMPLE, LearnedQueries, Merger, QueryMerger
from .method import PAPER, Method
from .precision import require_one_half
from .prompt import END_OF_TURN, Prompt, build_prompt, query_ids
from .towers import ClipTower, SiglipTower, mlp_projector

if TYPE_CHECKING:
    from .session import VideoSession

__all__ = ["Embedding", "Generation", "Prompt", "Selection", "ViLAMP"]


@dataclass(frozen=True)
class Embedding:
    """What the language model is given for a video and a question, and how it came about."""

    inputs_embeds: Tensor
    """`[1, S, H]`."""
    keyframes: Tensor
    """int64 `[min(N, K)]` (`paper`: at most K), ascending."""
    merged_tokens: Tensor
    """`[N, H]`: the merged token of every frame; those of keyframes are not used."""
    selection: Selection


class ViLAMP(nn.Module):
    """The model; `ViLAMP.from_pretrained()` gives one with weights.

    Args:
        config: sizes and rules. The constructor gives random weights, for training; a folder's
            tokenizers are read by `from_pretrained` only.
    """

    def __init__(self, config: ViLAMPConfig):
        super().__init__()
        self.config = config
        width = config.text_config.hidden_size
        self.language_model = Qwen2ForCausalLM(config.text_config)
        self.image_newline = nn.Parameter(torch.randn(width) * width**-0.5)
        self.vision_tower = SiglipTower(config.vision_config)
        self.projector = mlp_projector(config.vision_config.hidden_size, width)
        self.frame_selector = ClipTower(config.clip_config)
        self.composer_projector = ComposerProjector(width, config.composer_proj_dim)
        self.folder: Path | None = None
        self._tokenizer: PreTrainedTokenizerFast | None = None
        self._clip_tokenizer: PreTrainedTokenizerFast | None = None

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path = "default",
        compat: str | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
    ) -> ViLAMP:
        """Load a model in the published checkpoint layout, for inference.

        Args:
            path_or_hub_id: a folder, an id of the Hugging Face hub, or `"default"` for the small
                model that comes with the package.
            compat: `"released"` or `"paper"`; the checkpoint's own when None.
            dtype: of the weights; the checkpoint's own when None.
            device: the GPU if there is one when None.
        Raises:
            CheckpointError: the folder is incomplete or of another model; says which key or field.
            InputError: no such dtype or device, or the device is too small for the weights.
        """
        folder = checkpoint.find_folder(path_or_hub_id)
        config = ViLAMPConfig.from_folder(folder, compat)
        tensors = checkpoint.stored_tensors(folder)
        config.text_config.vocab_size = checkpoint.vocabulary_rows(
            tensors, config.text_config.vocab_size
        )
        try:
            with torch.device("meta"):
                model = cls(config)
        except (ValueError, KeyError, ZeroDivisionError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder}: config.json describes no model that can be built ({error})"
            ) from error
        where = inputs.device_of(device)
        try:
            checkpoint.load_weights(model, tensors, inputs.dtype_of(dtype, config.dtype), where)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"out of memory on {where}: the weights of {folder} do not fit; use a smaller "
                "dtype, or another device"
            ) from error
        model._restore_tables(where)
        model.folder = folder
        return model.eval()

    @property
    def device(self) -> torch.device:
        return self.image_newline.device

    @property
    def dtype(self) -> torch.dtype:
        return self.image_newline.dtype

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The language model's tokenizer.

        Raises:
            CheckpointError: the folder has none.
        """
        if self._tokenizer is None:
            self._tokenizer = tokenizers.language_tokenizer(self._require_folder())
        return self._tokenizer

    @property
    def clip_tokenizer(self) -> PreTrainedTokenizerFast:
        """CLIP's tokenizer: of the CLIP folder, else OpenAI's."""
        if self._clip_tokenizer is None:
            folder = tower_folder(self._require_folder(), self.config.clip_model_path)
            context = self.config.clip_config.text_config.max_position_embeddings
            self._clip_tokenizer = tokenizers.clip_tokenizer(folder, context)
        return self._clip_tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: those of the checkpoint, and the prompt's end of turn."""
        ids = set(self.config.stop_token_ids)
        if self.folder is not None and tokenizers.has_language_tokenizer(self.folder):
            end = self.tokenizer.backend_tokenizer.token_to_id(END_OF_TURN)
            ids.update(i for i in (end, self.tokenizer.eos_token_id) if i is not None)
        return frozenset(ids)

    def tokenize(self, question: str, query: str | None = None) -> Prompt:
        """A question in the ids of both text encoders.

        Args:
            question: what is asked, answer options included.
            query: what frames are ranked by, if not the question itself.
        Raises:
            InputError: an empty question.
            CheckpointError: the folder has no tokenizer.
        """
        return build_prompt(self.tokenizer, self.clip_tokenizer, question, query)

    def embed_question(
        self, clip_input_ids: Tensor, clip_attention_mask: Tensor | None = None
    ) -> Tensor:
        """CLIP's embedding of a question.

        Args:
            clip_input_ids: int64 `[Q, T]`.
            clip_attention_mask: int64 `[Q, T]`; all ones when None.
        Returns:
            fp32 `[Q, D]`, projected, not normalised.
        Raises:
            InputError: longer than CLIP's context, an id outside its vocabulary, or a mask of
                another shape.
        """
        text = self.config.clip_config.text_config
        inputs.require_ids("clip_input_ids", clip_input_ids, text.vocab_size)
        if clip_input_ids.shape[1] > text.max_position_embeddings:
            raise InputError(
                f"clip_input_ids: wanted at most {text.max_position_embeddings} tokens, "
                f"got {clip_input_ids.shape[1]}"
            )
        if clip_attention_mask is None:
            clip_attention_mask = torch.ones_like(clip_input_ids)
        if clip_attention_mask.shape != clip_input_ids.shape:
            raise InputError(
                f"clip_attention_mask: wanted {list(clip_input_ids.shape)}, "
                f"got {list(clip_attention_mask.shape)}"
            )
        return self.frame_selector.embed_texts(
            clip_input_ids.to(self.device), clip_attention_mask.to(self.device)
        )

    def embed_query(self, query: str) -> Tensor:
        """fp32 `[1, D]`: `embed_question` of a text, for which CLIP's tokenizer is enough.

        Raises:
            InputError: an empty text.
        """
        return self.embed_question(*query_ids(self.clip_tokenizer, query))

    def embed_frames(self, frames: preprocess.Frames) -> Tensor:
        """CLIP's embedding of each frame.

        Args:
            frames: uint8 RGB `[n, H, W, 3]` (or a sequence of `[H, W, 3]`), or normalised CLIP
                pixels `[n, 3, h, w]`, which are not modified.
        Returns:
            fp32 `[n, D]`, projected, not normalised.
        Raises:
            InputError: neither of the two.
        """
        size = self.config.clip_config.vision_config.image_size
        pixels = inputs.normalised_pixels("CLIP", frames, size, self.device)
        if pixels is None:
            pixels = self.clip_pixels(frames)
        return self.frame_selector.embed_images(pixels)

    def clip_pixels(self, frames: preprocess.Frames) -> Tensor:
        """Frames uint8 RGB `[n, H, W, 3]` as CLIP takes them: fp32 `[n, 3, h, w]`."""
        size = self.config.clip_config.vision_config.image_size
        mean, std = self.config.clip_mean, self.config.clip_std
        return preprocess.clip_pixels(frames, size, mean, std, self.device)

    def siglip_pixels(self, frames: preprocess.Frames) -> Tensor:
        """The same for SigLIP, in the dtype of the weights, to which its first layer casts."""
        size = self.config.vision_config.image_size
        return preprocess.siglip_pixels(frames, size, self.device).to(self.dtype)

    def selector_fingerprint(self) -> str:
        """Hash of what decides a frame's embedding: CLIP's weights, their dtype, its pixels."""
        clip = self.config.clip_config.vision_config
        digest = hashlib.sha256(repr((clip.to_dict(), self.config.clip_mean)).encode())
        digest.update(repr(self.config.clip_std).encode())
        for name, tensor in sorted(self.frame_selector.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(data.numpy().data)
        return digest.hexdigest()

    def select(
        self,
        frame_embeds: Tensor,
        question_embeds: Tensor,
        keyframes: int | None = None,
        method: Method = PAPER,
    ) -> Selection:
        """Keyframes of a video for each question, by the rules of `config.compat`.

        Args:
            frame_embeds: `[N, D]`.
            question_embeds: `[Q, D]`.
            keyframes: budget per question; the method's or the model's when None.
            method: another way to choose them, see `vilamp.method`.
        Raises:
            InputError: no frames, or a budget below 1.
        """
        if len(frame_embeds) == 0:
            raise InputError("a video of 0 frames has no keyframes")
        budgets = (keyframes, method.keyframes, self.config.keyframes)
        return keyframe_rules.select(
            frame_embeds,
            question_embeds,
            compat=self.config.compat,
            k=next(budget for budget in budgets if budget is not None),
            tau=self.config.tau if method.tau is None else method.tau,
            min_score=self.config.min_score,
            selector=method.selector,
        )

    def references(self, selection: Selection) -> Tensor:
        """int64 `[Q, N]`: the frame that each frame is compared with, itself, or -1 for none."""
        return keyframe_rules.references(selection, self.config.compat)

    def patches(self, frames: preprocess.Frames) -> Tensor:
        """What SigLIP and the first layer of the projector make of each patch.

        Args:
            frames: uint8 RGB `[n, H, W, 3]` (or a sequence of `[H, W, 3]`), or normalised SigLIP
                pixels `[n, 3, h, w]`, which are not modified.
        Returns:
            `[n, M, H]` in the dtype of the weights, row by row of the grid: hidden states after
            the GELU. The projector's last layer is applied by `keyframe_tokens` and `merge`.
        Raises:
            InputError: neither of the two.
        """
        size = self.config.vision_config.image_size
        pixels = inputs.normalised_pixels("SigLIP", frames, size, self.device)
        if pixels is None:
            pixels = self.siglip_pixels(frames)
        linear, gelu, _ = self.projector
        return gelu(linear(self.vision_tower(pixels)))

    def keyframe_tokens(self, patches: Tensor) -> Tensor:
        """A keyframe in full: its grid, resized to half.

        Args:
            patches: `[k, M, H]` from `patches`.
        Returns:
            `[k, T, H]`, row by row of the smaller grid; T = 196 for 27 x 27 patches.
        """
        k, _, width = patches.shape
        grid = patches.transpose(1, 2).reshape(k, width, *self.config.grid)
        small = nn.functional.interpolate(
            grid, size=self.config.keyframe_grid, mode="bilinear", align_corners=False
        )
        # Resizing is linear with weights that sum to 1, so the last layer may come after it. For
        # tokens that do not lie in rows, a CPU would copy the weights in bf16 instead.
        return self.projector[2](small.flatten(2).transpose(1, 2).contiguous())

    def merge(
        self,
        patches: Tensor,
        question_embeds: Tensor,
        references: Tensor,
        assignment: Tensor,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """One token per frame and question.

        Args:
            patches: `[n, M, H]` from `patches`.
            question_embeds: `[Q, D]`.
            references: `[R, M, H]` from `patches`.
            assignment: int64 `[Q, n]`: row of `references`, -1 for none, -2 for the frame itself.
            return_weights: also give fp32 `[Q, n, M]`, the weight of each patch.
        Returns:
            `[Q, n, H]`, with the weights if asked for.
        """
        return self.composer_projector(
            patches,
            question_embeds,
            references,
            assignment,
            output=self.projector[2],
            return_weights=return_weights,
        )

    def merger(
        self, question_embeds: Tensor, selection: Selection, method: Method = PAPER
    ) -> Merger:
        """`merge` for a video that arrives in batches; holds the reference frames it still needs.

        Args:
            question_embeds: `[Q, D]`.
            selection: the keyframes of these questions, which say what each frame is compared with.
            method: another way to merge, see `vilamp.mergings`.
        Returns:
            An object whose `push(patches [n, M, H], start)` gives tokens `[Q, n, H]` for the next
            frames of the video, whole batches in time order.
        Raises:
            CheckpointError: merging by learned queries, and none were trained for this model.
        """
        output = self.projector[2]
        if method.merging == "dfm":
            references = self.references(selection)
            return self.composer_projector.merger(
                question_embeds, references, output, method.alpha, method.lam
            )
        if method.merging == "queries":
            widths = output.in_features, question_embeds.shape[-1]
            queries = LearnedQueries.from_folder(self._require_folder(), *widths).to(self.device)
            return QueryMerger(queries, question_embeds, output)
        return SIMPLE[method.merging](len(question_embeds), output)

    def assemble(self, input_ids: Tensor, visual: Tensor) -> Tensor:
        """Put the tokens of a video into the prompt.

        Args:
            input_ids: int64 `[1, L]` with exactly one -200.
            visual: `[S_v, H]`, all tokens of the video in time order.
        Returns:
            `[1, L - 1 + S_v + 1, H]`: before, video, one newline vector, after; cut at the end to
            the checkpoint's `tokenizer_model_max_length`, with a warning.
        Raises:
            InputError: not exactly one -200, or an id outside the vocabulary.
        """
        place = inputs.place_of_video(input_ids)
        embed = self.language_model.model.embed_tokens
        text = torch.cat([input_ids[:, :place], input_ids[:, place + 1 :]], dim=1)
        inputs.require_ids("input_ids", text, embed.num_embeddings)
        words = embed(text[0].to(self.device))
        pieces = [words[:place], visual.to(words), self.image_newline[None], words[place:]]
        whole = torch.cat(pieces)
        limit = self.config.tokenizer_model_max_length
        if limit is not None and len(whole) > limit:
            warnings.warn(
                f"{len(whole)} tokens are cut to the {limit} that this model takes, and the end "
                "of the question is lost; use fewer frames or keyframes",
                stacklevel=2,
            )
        return whole[None, :limit]

    def decode(
        self,
        inputs_embeds: Tensor,
        max_new_tokens: int,
        *,
        return_logits: bool = False,
        on_token: Callable[[int], None] | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        prefill_chunk: int = PREFILL_CHUNK,
        on_smaller_chunk: Callable[[int], None] | None = None,
    ) -> Tensor | Generation:
        """Continue the prompt; see `vilamp.generate.decode`.

        Returns:
            New ids int64 `[1, T]`; with `return_logits` a `Generation` with the logits too.
        """
        generation = decode(
            self.language_model,
            inputs_embeds,
            max_new_tokens,
            stop_ids=self.stop_ids,
            on_token=on_token,
            do_sample=do_sample,
            temperature=temperature,
            seed=seed,
            prefill_chunk=prefill_chunk,
            on_smaller_chunk=on_smaller_chunk,
            keep_logits=return_logits,
        )
        return generation if return_logits else generation.ids

    @torch.no_grad()
    def embed(
        self,
        pixel_values: Tensor | None = None,
        clip_pixel_values: Tensor | None = None,
        clip_input_ids: Tensor | None = None,
        clip_attention_mask: Tensor | None = None,
        input_ids: Tensor | None = None,
        *,
        frames: preprocess.Frames | None = None,
        keyframes: int | None = None,
        batch: int = 8,
    ) -> Embedding:
        """What the language model is given for a video in memory and a question.

        Args:
            pixel_values: normalised SigLIP pixels `[N, 3, h, w]`; never modified.
            clip_pixel_values: normalised CLIP pixels `[N, 3, h', w']`; never modified.
            clip_input_ids: the question for CLIP, int64 `[1, T]`.
            clip_attention_mask: int64 `[1, T]`; all ones when None.
            input_ids: the prompt, int64 `[1, L]` with exactly one -200.
            frames: uint8 RGB `[N, H, W, 3]`, instead of both pixel arguments.
            keyframes: budget of keyframes; the model's when None.
            batch: frames that a tower is given at once.
        Raises:
            InputError: an argument is missing or of another shape, N = 0, two numbers of frames, or
                weights in one half precision under autocast to the other.
        """
        if clip_input_ids is None or input_ids is None:
            raise InputError("embed: clip_input_ids and input_ids are required")
        require_one_half(self.dtype, self.device)
        if len(clip_input_ids) != 1:
            raise InputError(
                f"clip_input_ids: wanted one question [1, T], got {list(clip_input_ids.shape)}"
            )
        # A prompt that cannot be assembled is refused before the video is looked at.
        inputs.place_of_video(input_ids)
        pixels, clip_pixels = inputs.one_source(frames, pixel_values, clip_pixel_values)
        n = len(pixels)
        if n == 0 or batch < 1:
            raise InputError(f"embed: wanted frames and a batch of at least 1, got {n} and {batch}")
        batches = [(start, min(start + batch, n)) for start in range(0, n, batch)]
        question = self.embed_question(clip_input_ids, clip_attention_mask)
        embeds = torch.cat([self.embed_frames(clip_pixels[a:b]) for a, b in batches])
        selection = self.select(embeds, question, keyframes)
        chosen = selection.indices[0]
        # The published code multiplies the pixels by (1 - s + s), s a softmax of the scores: by
        # exactly 1, unless a score is NaN, which makes every pixel of the video NaN.
        spoilt = self.config.compat == "released" and bool(selection.scores.isnan().any())
        merger = self.merger(question, selection)
        merged, full = [], []
        for a, b in batches:
            patches = self.patches(pixels[a:b])
            if spoilt:
                patches = torch.full_like(patches, torch.nan)
            merged.append(merger.push(patches, a)[0])
            here = chosen[(chosen >= a) & (chosen < b)] - a
            full.append(self.keyframe_tokens(patches[here]))
            # Not beside those of the next batch.
            del patches
        tokens = torch.cat(merged)
        visual = visual_sequence(chosen, torch.cat(full), tokens)
        return Embedding(self.assemble(input_ids, visual), chosen, tokens, selection)

    @torch.no_grad()
    def generate(
        self,
        *embed_args: Tensor,
        max_new_tokens: int = 64,
        return_logits: bool = False,
        on_token: Callable[[int], None] | None = None,
        do_sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        **embed_options: Any,
    ) -> Tensor | Generation:
        """Answer a question about a video in memory.

        Takes what `embed` takes, and the options of `decode`, which also says what is returned.
        """
        return self.decode(
            self.embed(*embed_args, **embed_options).inputs_embeds,
            max_new_tokens,
            return_logits=return_logits,
            on_token=on_token,
            do_sample=do_sample,
            temperature=temperature,
            seed=seed,
        )

    def vision_modules(self) -> tuple[nn.Module, ...]:
        """What is needed to turn frames into tokens, and not to answer."""
        return self.vision_tower, self.frame_selector, self.projector, self.composer_projector

    def move_vision(self, device: torch.device | str) -> None:
        """Move `vision_modules` to a device, such as `"cpu"` while a long prompt is read on a GPU.

        The language model stays; frames can be looked at again once they are back beside it.
        """
        for module in self.vision_modules():
            module.to(device)

    def session(self, source: Any, **options: Any) -> VideoSession:
        """Any number of questions about one video, read as a stream; see `vilamp.session`."""
        from .session import VideoSession

        return VideoSession(self, source, **options)

    def _require_folder(self) -> Path:
        if self.folder is None:
            raise CheckpointError("a model without a folder has no tokenizers: set model.folder")
        return self.folder

    def _restore_tables(self, device: torch.device) -> None:
        """Compute what a checkpoint does not store: positions and rotary frequencies."""
        language = self.language_model.model
        # In there, tensors are made on PyTorch's default device.
        with torch.device("cpu"):
            rotary = Qwen2RotaryEmbedding(language.config)
        language.rotary_emb = rotary.to(device)
        for module in self.modules():
            table = getattr(module, "position_ids", None)
            if isinstance(table, Tensor) and table.is_meta:
                module.position_ids = torch.arange(table.shape[-1], device=device)[None]
