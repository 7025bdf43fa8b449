"""A second ViLAMP, in fp64: written from the rules, sharing no code with the package.

Stock `transformers` backbones; the rules as plain loops over frames, keyframes and patches, the
projector's last layer applied to every patch.
"""

from __future__ import annotations

from pathlib import Path

import torch
from model_files import Sizes, clip_config_of, vision_config_of
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

EPS = 1e-8


class Oracle:
    """A model of `model_files.write_checkpoint`, evaluated in fp64."""

    def __init__(self, folder: Path, sizes: Sizes):
        self.sizes = sizes
        stored = load_file(folder / "model.safetensors")
        self.weights = {key: value.double() for key, value in stored.items()}
        vision = {**vision_config_of(sizes), "vision_use_head": False}
        vision["num_hidden_layers"] -= 1
        self.siglip = self._load(
            SiglipVisionModel(SiglipVisionConfig(**vision)),
            "model.vision_tower.vision_tower.vision_model.",
        )
        # The features are those before this layer.
        self.siglip.post_layernorm = torch.nn.Identity()
        self.clip = self._load(
            CLIPModel(CLIPConfig(**clip_config_of(sizes))), "model.frame_selector.model."
        )
        lm = sizes.language
        config = Qwen2Config(
            hidden_size=lm.width,
            intermediate_size=lm.inner,
            num_hidden_layers=lm.layers,
            num_attention_heads=lm.heads,
            num_key_value_heads=sizes.kv_heads,
            vocab_size=sizes.vocabulary,
            rope_parameters={"rope_type": "default", "rope_theta": sizes.rope_theta},
        )
        self.language = self._load(Qwen2ForCausalLM(config), "")

    def _load(self, module: torch.nn.Module, prefix: str) -> torch.nn.Module:
        module = module.double().eval()
        ours = {k[len(prefix) :]: v for k, v in self.weights.items() if k.startswith(prefix)}
        missing = set(module.state_dict()) - set(ours)
        assert not missing, missing
        module.load_state_dict({k: v for k, v in ours.items() if k in module.state_dict()})
        return module

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def frame_embeds(self, clip_pixels: Tensor) -> Tensor:
        pooled = self.clip.vision_model(clip_pixels.double()).pooler_output
        return self.clip.visual_projection(pooled)

    def question_embed(self, ids: Tensor) -> Tensor:
        return self.clip.text_projection(self.clip.text_model(ids).pooler_output)[0]

    def patches(self, pixels: Tensor) -> Tensor:
        """`[n, M, H]`: projected patches."""
        features = self.siglip(pixels.double()).last_hidden_state
        hidden = torch.nn.functional.gelu(self.linear("model.mm_projector.0", features))
        return self.linear("model.mm_projector.2", hidden)

    def keyframes(self, frames: Tensor, question: Tensor) -> tuple[list[int], float]:
        """Paper rule, and how far the closest comparison was from going the other way."""
        scores = torch.stack([cosine(frame, question) for frame in frames])
        order = scores.sort(descending=True)
        margin = (order.values[:-1] - order.values[1:]).min().item() if len(frames) > 1 else 1.0
        taken: list[int] = []
        for candidate in order.indices.tolist():
            if len(taken) == self.sizes.keyframes:
                break
            alike = [cosine(frames[candidate], frames[other]).item() for other in taken]
            margin = min([margin] + [abs(value - self.sizes.tau) for value in alike])
            if not any(value > self.sizes.tau for value in alike):
                taken.append(candidate)
        return sorted(taken), margin

    def merged(self, patches: Tensor, question: Tensor, reference: list[int | None]) -> Tensor:
        """`[N, H]`, each frame against the frame that `reference` names."""
        composer = "model.composer_projector.linear"
        text = self.linear(f"{composer}_q", question)
        tokens = []
        for frame, other in zip(patches, reference, strict=True):
            logits = []
            for place, patch in enumerate(frame):
                relevance = cosine(text, self.linear(f"{composer}_iq", patch))
                sameness = torch.tensor(0.0, dtype=torch.float64)
                if other is not None:
                    key = self.linear(f"{composer}_k", patches[other][place])
                    sameness = cosine(key, self.linear(f"{composer}_ik", patch))
                logits.append((relevance - sameness) / self.weights["model.composer_projector.tau"])
            weights = torch.stack(logits).softmax(0)
            tokens.append((weights[:, None] * frame).sum(0))
        return torch.stack(tokens)

    def keyframe_tokens(self, patches: Tensor) -> Tensor:
        """`[T, H]` of one keyframe: half-pixel bilinear, by a matrix per axis."""
        side = self.sizes.vision_image // self.sizes.vision_patch
        small = -(-side // 2)
        resize = torch.zeros(small, side, dtype=torch.float64)
        for row in range(small):
            at = min(max((row + 0.5) * side / small - 0.5, 0), side - 1)
            low = int(at)
            high = min(low + 1, side - 1)
            resize[row, low] += 1 - (at - low)
            resize[row, high] += at - low
        grid = patches.reshape(side, side, -1)
        return torch.einsum("ai,bj,ijc->abc", resize, resize, grid).flatten(0, 1)

    def sequence(
        self, input_ids: Tensor, patches: Tensor, keyframes: list[int], merged: Tensor
    ) -> Tensor:
        """`[S, H]`: the prompt with the video in it."""
        rows = []
        for token in input_ids[0].tolist():
            if token != -200:
                rows.append(self.weights["model.embed_tokens.weight"][token][None])
                continue
            for frame in range(len(patches)):
                whole = frame in keyframes
                rows.append(self.keyframe_tokens(patches[frame]) if whole else merged[frame][None])
            rows.append(self.weights["model.image_newline"][None])
        return torch.cat(rows)

    def answer(self, sequence: Tensor, new_tokens: int) -> tuple[list[int], Tensor]:
        """Greedy ids and their logits, the whole sequence computed anew for each."""
        ids, logits = [], []
        for _ in range(new_tokens):
            logits.append(self.language(inputs_embeds=sequence[None]).logits[0, -1])
            ids.append(int(logits[-1].argmax()))
            row = self.weights["model.embed_tokens.weight"][ids[-1]]
            sequence = torch.cat([sequence, row[None]])
        return ids, torch.stack(logits)


def preceding(keyframes: list[int], n: int) -> list[int | None]:
    """Paper rule: the keyframe at or before each frame."""
    return [max((k for k in keyframes if k <= frame), default=None) for frame in range(n)]


def released(keyframes: list[int], n: int) -> list[int]:
    """Published rule: frame number j of the video in segment j, before the first itself."""
    return [
        frame if frame < keyframes[0] else sum(k <= frame for k in keyframes) - 1
        for frame in range(n)
    ]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.norm().clamp_min(EPS) * b.norm().clamp_min(EPS))
