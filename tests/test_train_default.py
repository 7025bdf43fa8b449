"""The training code of the default model: its own forward pass, its codes, its resume."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from vilamp.drawn import patch_labels, sample_clip
from vilamp.train_default import loop
from vilamp.train_default.bank import Bank, _jobs, patch_classes
from vilamp.train_default.codes import code_table, group_codes, token_codes
from vilamp.train_default.episodes import lay_out, sample_episode, sample_questions
from vilamp.train_default.language import Language
from vilamp.train_default.lookup import (
    keyframe_shares,
    made_up_batch,
    role_codes,
    where_to_look,
)
from vilamp.train_default.stages import STAGES


@pytest.fixture(scope="module")
def bank():
    """Sixty clips without pictures."""
    rng = np.random.default_rng(0)
    clips = [sample_clip(rng, "train") for _ in range(60)]
    times = [(0.1, c.flash_start + 0.1, c.seconds - 0.2, c.seconds - 0.5) for c in clips]
    roles = [[patch_labels(c, t, 8) for t in row] for c, row in zip(clips, times, strict=True)]
    return Bank(
        frames=None,
        roles=torch.from_numpy(np.array(roles, np.uint8)),
        anchors=torch.tensor([c.anchor for c in clips]),
        sides=torch.tensor([(c.side_colours, c.side_shapes) for c in clips]),
        glyphs=torch.tensor([c.glyph for c in clips]),
    )


def test_questions_side_by_side_equal_questions_alone(bank):
    torch.manual_seed(0)
    model = Language().eval()
    generator = torch.Generator().manual_seed(0)
    batch = made_up_batch(bank, videos=2, frames=20, keyframes=3, generator=generator, noise=0.1)
    together = model(batch)[0]
    embed = model.qwen.model.embed_tokens
    for i, question in ((0, 0), (0, 3), (1, 5)):
        ids = batch.questions[i, question, : batch.answer_at[i, question] + 1]
        pieces = [embed(model.prefix), batch.visual[i], model.newline[None], embed(ids)]
        before, last = len(model.prefix), int(batch.positions[i, -1])
        positions = torch.cat(
            [
                torch.arange(before),
                batch.positions[i] + before,
                before + last + 1 + torch.arange(1 + len(ids)),
            ]
        )
        alone = model.qwen(inputs_embeds=torch.cat(pieces)[None], position_ids=positions[None])
        torch.testing.assert_close(alone.logits[0, -1], together[i, question], atol=1e-4, rtol=0)


def test_crowd_counts_a_token_as_many(bank):
    torch.manual_seed(0)
    model = Language().eval()
    generator = torch.Generator().manual_seed(0)
    batch = made_up_batch(bank, videos=1, frames=20, keyframes=3, generator=generator, noise=0.1)
    plain = model(batch)[2][0].exp()
    batch.crowd[:, 0] = np.log(5)
    crowded = model(batch)[2][0].exp()
    assert (crowded[..., 0] > plain[..., 0]).all()


def test_codes_are_orthonormal_and_nothing_is_zero():
    table = code_table()
    torch.testing.assert_close(table @ table.T, torch.eye(len(table)), atol=1e-5, rtol=0)
    assert not group_codes("own glyph")[0].any() and group_codes("place").all(0).any()


def test_made_up_tokens_are_the_projector_s_targets(bank):
    clips, frames = torch.tensor([3, 8, 21]), torch.tensor([0, 1, 2])
    targets = token_codes(patch_classes(bank, clips, frames))
    roles = bank.roles[clips, frames].flatten(1).long()
    by_role = role_codes(bank, clips)
    torch.testing.assert_close(by_role[torch.arange(3)[:, None], roles], targets)
    pooled = targets.view(3, 4, 2, 4, 2, -1).mean((2, 4)).flatten(1, 2)
    shares = keyframe_shares(bank.roles[clips, frames])
    torch.testing.assert_close(shares @ by_role, pooled, atol=1e-5, rtol=0)


def test_the_answer_is_where_the_questions_look(bank):
    rng = np.random.default_rng(1)
    episode = sample_episode(bank, 60, rng)
    keyframes = np.array([2, 17, 40])
    layout = lay_out(60, keyframes)
    assert len(layout.frame) == 60 - 3 + 3 * 16
    assert (np.bincount(layout.frame)[keyframes] == 16).all()
    questions = sample_questions(bank, episode, 40, rng, keyframes)
    roles = bank.roles[torch.from_numpy(episode.clip), torch.from_numpy(episode.frame)]
    share = keyframe_shares(roles).numpy()[layout.frame, np.maximum(layout.cell, 0)]
    found = where_to_look(episode, layout, questions, share)
    for question, row in zip(questions, found, strict=True):
        assert set(episode.clip[layout.frame[row]]) <= {question.clip}
        if question.side >= 0:
            assert (layout.cell[row] >= 0).all()


@pytest.fixture(scope="module")
def anchors_only():
    """Two thousand clips without pictures or roles."""
    rng = np.random.default_rng(3)
    clips = [sample_clip(rng, "train") for _ in range(2000)]
    return Bank(
        frames=None,
        roles=None,
        anchors=torch.tensor([c.anchor for c in clips]),
        sides=torch.tensor([(c.side_colours, c.side_shapes) for c in clips]),
        glyphs=torch.tensor([c.glyph for c in clips]),
    )


def test_the_shape_alone_often_decides_and_always_suffices(anchors_only):
    rng = np.random.default_rng(4)
    alike, asked = 0, 0
    for _ in range(40):
        episode = sample_episode(anchors_only, 300, rng)
        anchors = anchors_only.anchors[episode.clips]
        assert len(anchors.unique(dim=0)) == len(anchors)
        for question in sample_questions(anchors_only, episode, 6, rng):
            same = anchors == anchors_only.anchors[question.clip]
            alike += bool((same[:, 0] & same[:, 1] & ~same[:, 2]).any())
            asked += 1
            needed = {"place": [1, 2], "anchor colour": [0, 2]}.get(question.type, [0, 1, 2])
            assert same[:, needed].all(1).sum() == 1
    assert alike / asked > 0.5


def test_a_stage_runs_in_a_process_of_its_own(tmp_path):
    # All is there but one shard of the bank.
    for stage in STAGES.values():
        (tmp_path / stage.result).parent.mkdir(exist_ok=True)
        (tmp_path / stage.result).touch()
    for path, _, _ in _jobs(tmp_path / "bank"):
        path.touch()
    missing = tmp_path / STAGES["bank"].result
    missing.unlink()
    command = [sys.executable, "-m", "vilamp.train_default", "--no-export", "--folder", tmp_path]
    subprocess.run(command, check=True, timeout=300)
    assert missing.stat().st_size > 1e6


def toy(folder, stop_after=None):
    torch.manual_seed(0)
    model = nn.Linear(3, 3)

    def loss(step, generator):
        if step == stop_after:
            raise KeyboardInterrupt
        return (model(torch.randn(4, 3, generator=generator)) - 1).square().mean(), ""

    loop.train("toy", model, loss, folder=folder, steps=12, rate=0.1)


def test_a_stopped_stage_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_EVERY", 0.0)
    toy(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        toy(tmp_path / "broken", stop_after=7)
    assert (tmp_path / "broken" / "toy.checkpoint.safetensors").exists()
    toy(tmp_path / "broken")
    whole, broken = (load_file(tmp_path / d / "toy.safetensors") for d in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)
    assert not (tmp_path / "broken" / "toy.checkpoint.safetensors").exists()
