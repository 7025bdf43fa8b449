"""`python -m vilamp.train_default.evaluate`: what each part of the default model is worth.

Draws fresh test videos (anchors, layouts and sentences that training never saw), one hidden clip of
5 to 10 seconds in each, writes them as H.264 files, reads them back like any other video, and
answers the question under five policies. Rows are written as they come; a run that was stopped goes
on where it was.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..drawn import TYPES, Case, draw_video
from ..keyframes import Selection
from ..merging import visual_sequence
from ..model import ViLAMP
from ..video import open_video
from .progress import Progress

POLICIES = {
    "a": "DKS + DFM",
    "b": "uniform keyframes + DFM",
    "c": "DKS, other frames dropped",
    "d": "DKS + mean pooling",
    "e": "no video",
}
FIELDS = ("video", "type", "policy", "question", "truth", "answer", "right", "hit", "keyframes")
FIRST_SEED = 1_000_000


@dataclass
class Clip:
    """A video as the model sees it: times in seconds [N], embeddings [N, D], hidden patches [N, M,
    C].
    """

    times: Tensor
    embeds: Tensor
    patches: Tensor


@torch.inference_mode()
def read(model: ViLAMP, path: Path, batch: int = 64) -> Clip:
    """Decode a video at one frame a second and run both towers on it."""
    times, embeds, patches = [], [], []
    for frames in open_video(path, fps=1.0).batches(batch):
        pictures = [frame.image for frame in frames]
        times += [frame.time for frame in frames]
        embeds.append(model.embed_frames(pictures))
        patches.append(model.patches(pictures))
    return Clip(torch.tensor(times), torch.cat(embeds), torch.cat(patches))


def uniform(count: int, keyframes: int, scores: Tensor) -> Selection:
    """Keyframes in the middle of `keyframes` equal parts."""
    k = min(count, keyframes)
    chosen = ((torch.arange(k) + 0.5) * count / k).long()
    return Selection([chosen], scores, [torch.zeros(k, dtype=torch.bool)])


def merged_tokens(model: ViLAMP, clip: Clip, question: Tensor, selection: Selection) -> Tensor:
    """Differential merging of every frame, [N, H]."""
    references = model.references(selection)
    # The preceding keyframes are the bank; a frame before the first has none.
    used, rows = references.clamp(min=0).unique(return_inverse=True)
    assignment = torch.where(references < 0, references, rows)
    return model.merge(clip.patches, question, clip.patches[used], assignment)[0]


def visual(model: ViLAMP, clip: Clip, question: Tensor, policy: str) -> tuple[Tensor, Tensor]:
    """Visual tokens [S, H] of a policy, and its keyframes."""
    if policy == "e":
        return clip.patches.new_zeros(0, clip.patches.shape[-1]), torch.zeros(0, dtype=torch.long)
    selection = model.select(clip.embeds, question)
    if policy == "b":
        selection = uniform(len(clip.times), model.config.keyframes, selection.scores)
    chosen = selection.indices[0]
    full = model.keyframe_tokens(clip.patches[chosen])
    if policy == "c":
        return full.flatten(0, 1), chosen
    if policy == "d":
        merged = model.projector[2](clip.patches.mean(1))
    else:
        merged = merged_tokens(model, clip, question, selection)
    return visual_sequence(chosen, full, merged), chosen


@torch.inference_mode()
def answer_all(
    model: ViLAMP, clip: Clip, case: Case, policies: Iterable[str] = POLICIES
) -> list[dict]:
    """One row per policy for a question about a video."""
    prompt = model.tokenize(case.question)
    question = model.embed_question(prompt.clip_input_ids, prompt.clip_attention_mask)
    rows = []
    for policy in policies:
        tokens, chosen = visual(model, clip, question, policy)
        ids = model.decode(model.assemble(prompt.input_ids, tokens), 4)
        answer = model.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        times = clip.times[chosen]
        rows.append(
            {
                "type": case.type,
                "policy": policy,
                "question": case.question,
                "truth": case.answer,
                "answer": answer,
                "right": int(answer == case.answer),
                "hit": int(((times >= case.start) & (times < case.end)).any()),
                "keyframes": len(chosen),
            }
        )
    return rows


@dataclass(frozen=True)
class Plan:
    """How many videos of how many seconds (= frames), questions in each, and policies."""

    videos: int = 300
    seconds: int = 300
    needles: int = 1
    policies: str = "".join(POLICIES)

    def kinds(self, video: int) -> list[str]:
        """Types of a video's questions: all types in turn over the whole test."""
        return [list(TYPES)[(video * self.needles + i) % len(TYPES)] for i in range(self.needles)]


def run(model: ViLAMP, folder: Path, plan: Plan) -> list[dict]:
    """Answer every question of a plan, keeping rows in `<folder>/answers.csv`; returns all rows."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "answers.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    whole = plan.needles * len(plan.policies)
    done = Counter(int(row["video"]) for row in rows)
    rows = [r for r in rows if done[int(r["video"])] == whole and int(r["video"]) < plan.videos]
    missing = [i for i in range(plan.videos) if done[i] != whole]
    progress = Progress("evaluate", plan.videos, done=plan.videos - len(missing))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
        for i in missing:
            video = folder / f"video-{i:04d}.mp4"
            cases = draw_video(
                video, seconds=plan.seconds, seed=FIRST_SEED + i, needles=plan.kinds(i)
            )
            clip = read(model, video)
            video.unlink()
            answers = [answer_all(model, clip, case, plan.policies) for case in cases]
            fresh = [{"video": i, **row} for own in answers for row in own]
            writer.writerows(fresh)
            file.flush()
            rows += fresh
            progress.step()
    return rows


def table(rows: Iterable[dict]) -> str:
    """Markdown: accuracy per type and kind under each policy, majority answer, hit rates."""
    rows = list(rows)
    right, hits, truths = defaultdict(list), defaultdict(list), defaultdict(Counter)
    groups = {kind: [kind] for kind in dict.fromkeys(TYPES.values())}
    for row in rows:
        kind = TYPES[row["type"]]
        for group in (row["type"], f"**{kind}**", "**all**"):
            right[group, row["policy"]].append(int(row["right"]))
        hits[row["policy"]].append(int(row["hit"]))
        if row["policy"] == "a":
            truths[row["type"]][row["truth"]] += 1
    policies = {policy: name for policy, name in POLICIES.items() if hits[policy]}
    heads = [f"({policy}) {name}" for policy, name in policies.items()]
    lines = [f"| questions | n | {' | '.join(heads)} | majority answer |"]
    lines.append("| --- |" + " ---: |" * (len(policies) + 2))
    order = []
    for kind in groups:
        order += [name for name, own in TYPES.items() if own == kind] + [f"**{kind}**"]
    for group in [*order, "**all**"]:
        cells = [right[group, policy] for policy in policies]
        if not cells[0]:
            continue
        names = [t for t in TYPES if group in (t, f"**{TYPES[t]}**", "**all**") and truths[t]]
        majority = sum(truths[t].most_common(1)[0][1] for t in names)
        majority /= sum(truths[t].total() for t in names)
        shares = " | ".join(f"{100 * sum(c) / len(c):.1f}" for c in cells)
        lines.append(f"| {group} | {len(cells[0])} | {shares} | {100 * majority:.1f} |")
    rates = " | ".join(f"{100 * sum(hits[p]) / len(hits[p]):.1f}" for p in policies)
    lines.append(f"| *a keyframe falls into the clip* | {len(hits['a'])} | {rates} | |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m vilamp.train_default.evaluate", description=__doc__
    )
    parser.add_argument("--model", default="default", help="model folder")
    parser.add_argument("--videos", type=int, default=Plan.videos)
    parser.add_argument("--seconds", type=int, default=Plan.seconds, help="of each video = frames")
    parser.add_argument("--needles", type=int, default=Plan.needles, help="questions per video")
    parser.add_argument("--policies", default=Plan.policies, help="letters of the table's columns")
    parser.add_argument("--folder", type=Path, default=Path("runs/evaluate"))
    options = parser.parse_args()
    model = ViLAMP.from_pretrained(options.model, device="cpu")
    plan = Plan(options.videos, options.seconds, options.needles, options.policies)
    text = table(run(model, options.folder, plan))
    (options.folder / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
