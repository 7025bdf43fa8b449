"""The language model in training: Qwen2 with several questions side by side behind one video.

The weights are those of `transformers.Qwen2ForCausalLM`; only the forward pass is ours, for two
reasons: questions share the video under a block mask (no question sees another), and the attention
from the place of the answer to the video is an output, so that it can be taught where to look.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2ForCausalLM

from .codes import GROUPS, group_codes
from .sizes import LANGUAGE
from .tokenizers import END, language_tokenizer, prompt_ids

# Layers whose first head is taught where to look.
GROUNDED = (1, 2)


def language_config() -> Qwen2Config:
    """Configuration of the language model."""
    sizes = {k: v for k, v in LANGUAGE.items() if k != "rope_theta"}
    return Qwen2Config(
        **sizes,
        rope_parameters={"rope_type": "default", "rope_theta": LANGUAGE["rope_theta"]},
        vocab_size=language_tokenizer().get_vocab_size(),
        tie_word_embeddings=False,
        use_sliding_window=False,
    )


@dataclass
class Batch:
    """Videos with questions behind them, padded to one shape.

    visual: [B, V, H] tokens.
    positions: int64 [B, V].
    questions: int64 [B, Q, L] token numbers, the answer last.
    answer_at: int64 [B, Q], place of the last prompt token.
    targets: bool [B, Q, V], where to look.
    crowd: fp32 [B, V], logarithm of how many tokens each one stands for.
    """

    visual: Tensor
    positions: Tensor
    questions: Tensor
    answer_at: Tensor
    targets: Tensor
    crowd: Tensor


class Language(nn.Module):
    """Qwen2 and the vector after the last visual token."""

    def __init__(self):
        super().__init__()
        self.qwen = Qwen2ForCausalLM(language_config())
        self.newline = nn.Parameter(torch.zeros(LANGUAGE["hidden_size"]))
        self.register_buffer("prefix", torch.tensor(prompt_ids("?")[0]), persistent=False)
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """First weights: words near their codes, and keys equal to queries, so that like attends to
        like.
        """
        depth = LANGUAGE["num_hidden_layers"]
        for name, weight in self.qwen.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                weight.normal_(0, 0.06 / (2 * depth) ** 0.5 if last else 0.06)
        for layer in self.qwen.model.layers:
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
        embed, head = self.qwen.model.embed_tokens.weight, self.qwen.lm_head.weight
        embed.normal_(0, LANGUAGE["hidden_size"] ** -0.5)
        head.normal_(0, 0.02)
        number = language_tokenizer().token_to_id
        for group in ("place", "anchor colour", "anchor shape", "role"):
            codes = group_codes(group)[1:] if group == "role" else group_codes(group)
            for word, code in zip(GROUPS[group], codes, strict=True):
                if number(word) is not None:
                    embed[number(word)] = code
        for group in ("place", "anchor colour", "own colour", "own shape", "own glyph"):
            codes = group_codes(group)[1:] if group.startswith("own") else group_codes(group)
            for word, code in zip(GROUPS[group], codes, strict=True):
                head[number(word)] += 0.3 * code

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Logits of the answer [B, Q, W], logits after it [B, Q, W], and log-attention of the
        grounded heads.

        The log-attention is [B, Q, V] for each layer of `GROUNDED`: shares of the whole softmax.
        """
        count, visual = batch.visual.shape[:2]
        asked, length = batch.questions.shape[1:]
        embed = self.qwen.model.embed_tokens
        prefix = embed(self.prefix)[None].expand(count, -1, -1)
        newline = self.newline.expand(count, 1, -1)
        words = embed(batch.questions.flatten(1))
        x = torch.cat([prefix, batch.visual, newline, words], 1)

        before = prefix.shape[1]
        after = batch.positions[:, -1:] + 1
        steps = after + 1 + torch.arange(length).repeat(asked)
        positions = torch.cat(
            [
                torch.arange(before).expand(count, -1),
                batch.positions + before,
                after + before,
                steps + before,
            ],
            1,
        )
        cos, sin = self.qwen.model.rotary_emb(x, positions)
        mask = _mask(before + visual + 1, asked, length)
        crowd = F.pad(batch.crowd, (before, 1 + asked * length))
        bias = mask + crowd[:, None, None]

        at = before + visual + 1 + torch.arange(asked) * length + batch.answer_at
        log_attention = []
        for i, layer in enumerate(self.qwen.model.layers):
            watch = at if i in GROUNDED else None
            x, seen = _layer(layer, x, cos, sin, bias, watch)
            if seen is not None:
                log_attention.append(seen[..., before : before + visual])
        rows = torch.arange(count)[:, None]
        head = self.qwen.lm_head
        norm = self.qwen.model.norm
        return head(norm(x[rows, at])), head(norm(x[rows, at + 1])), log_attention


def _mask(shared: int, asked: int, length: int) -> Tensor:
    """0 where a token may look, -inf elsewhere: causal, and questions do not see each other. [T,
    T].
    """
    total = shared + asked * length
    block = torch.cat([torch.full((shared,), -1), torch.arange(asked).repeat_interleave(length)])
    allowed = (block[None] == block[:, None]) | (block[None] == -1)
    allowed = allowed & torch.ones(total, total, dtype=torch.bool).tril()
    return torch.zeros(total, total).masked_fill(~allowed, float("-inf"))


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def _layer(layer, x, cos, sin, bias, watch):
    """One Qwen2 layer; with `watch` [B, Q] also the log-attention of head 0 from those places."""
    attention = layer.self_attn
    count, total, width = x.shape
    heads = LANGUAGE["num_attention_heads"]
    y = layer.input_layernorm(x)
    q, k, v = (
        project(y).view(count, total, heads, -1).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    q, k = _turn(q, cos[:, None], sin[:, None]), _turn(k, cos[:, None], sin[:, None])
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    x = x + attention.o_proj(mixed.transpose(1, 2).reshape(count, total, width))
    x = x + layer.mlp(layer.post_attention_layernorm(x))
    if watch is None:
        return x, None
    rows = torch.arange(count)[:, None]
    scores = q[rows, 0, watch] @ k[:, 0].transpose(1, 2) * q.shape[-1] ** -0.5
    return x, (scores + bias[rows, 0, watch]).log_softmax(-1)


def answer_loss(model: Language, batch: Batch, grounding: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answer and of its end, plus the grounding loss.

    Returns:
        The loss, and which answers are right, bool [B, Q].
    """
    answer, end, log_attention = model(batch)
    truth = batch.questions.gather(2, batch.answer_at[..., None] + 1)[..., 0]
    loss = F.cross_entropy(answer.flatten(0, 1), truth.flatten())
    stop = torch.full_like(truth, language_tokenizer().token_to_id(END))
    loss = loss + 0.1 * F.cross_entropy(end.flatten(0, 1), stop.flatten())
    if grounding:
        for seen in log_attention:
            # -log of the attention that all the right tokens get together.
            hit = seen.masked_fill(~batch.targets, float("-inf")).logsumexp(-1)
            loss = loss - grounding * hit.clamp(min=-20).mean()
    return loss, answer.detach().argmax(-1) == truth
