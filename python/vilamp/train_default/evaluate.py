"""`python -m vilamp.train_default.evaluate`: what each part of the default model is worth.

Draws fresh test videos (anchors, layouts and sentences that training never saw), one hidden clip of
5 to 10 seconds in each, writes them as H.264 files, reads them back like any other video, and
answers the question under five policies. Rows are written as they come; a run that was stopped goes
on where it was.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..drawn import TYPES, Case, draw_video
from ..method import Method
from ..model import ViLAMP
from ..video import open_video
from ..visual_tokens import VisualTokens
from .progress import Progress

POLICIES = {
    "a": "DKS + DFM",
    "b": "uniform keyframes + DFM",
    "c": "DKS, other frames dropped",
    "d": "DKS + mean pooling",
    "e": "no video",
}
METHODS = {
    "a": Method(),
    "b": Method(selector="uniform"),
    "c": Method(merging="none"),
    "d": Method(merging="mean"),
    "e": None,
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
def read(model: ViLAMP, path: Path, batch: int = 64, sampling: str = "time") -> Clip:
    """Decode a video at one frame a second, or fewer, and run both towers on it."""
    times, embeds, patches = [], [], []
    for frames in open_video(path, fps=1.0, sampling=sampling).batches(batch):
        pictures = [frame.image for frame in frames]
        times += [frame.time for frame in frames]
        embeds.append(model.embed_frames(pictures))
        patches.append(model.patches(pictures))
    return Clip(torch.tensor(times), torch.cat(embeds), torch.cat(patches))


def visual(
    model: ViLAMP, clip: Clip, questions: Tensor, method: Method | None
) -> list[tuple[Tensor, Tensor]]:
    """For each of some questions [Q, D], the visual tokens [S, H] of a method and its keyframes;
    nothing at all when the method is None.
    """
    if method is None:
        nothing = clip.patches.new_zeros(0, clip.patches.shape[-1])
        return [(nothing, torch.zeros(0, dtype=torch.long))] * len(questions)
    selection = model.select(clip.embeds, questions, method=method)
    merged = model.merger(questions, selection, method).push(clip.patches, 0)
    found = []
    for chosen, own in zip(selection.indices, merged, strict=True):
        whole = VisualTokens(model, chosen, len(clip.times), method.merging == "none")
        whole.add(0, clip.patches, own)
        found.append((whole.tokens, chosen))
    return found


@torch.inference_mode()
def answer_all(
    model: ViLAMP,
    clip: Clip,
    cases: Sequence[Case],
    policies: Mapping[str, Method | None] = METHODS,
) -> list[dict]:
    """One row for each policy and question about a video."""
    prompts = [model.tokenize(case.question) for case in cases]
    questions = torch.cat(
        [model.embed_question(p.clip_input_ids, p.clip_attention_mask) for p in prompts]
    )
    rows = []
    for policy, method in policies.items():
        seen = visual(model, clip, questions, method)
        for case, prompt, (tokens, chosen) in zip(cases, prompts, seen, strict=True):
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
    """How many videos of how many seconds (= frames), questions in each, policies by name, and
    the seed of the first video."""

    videos: int = 300
    seconds: int = 300
    needles: int = 1
    policies: Mapping[str, Method | None] = field(default_factory=lambda: METHODS)
    first_seed: int = FIRST_SEED

    def kinds(self, video: int) -> list[str]:
        """Types of a video's questions: all types in turn over the whole test."""
        return [list(TYPES)[(video * self.needles + i) % len(TYPES)] for i in range(self.needles)]


def run(model: ViLAMP, folder: Path, plan: Plan) -> list[dict]:
    """Answer every question of a plan; returns all rows, which are kept in `<folder>/answers.csv`.

    Policies that a video has rows of are not run again, so a plan may grow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "answers.csv"
    rows = list(csv.DictReader(path.open())) if path.exists() else []
    count = Counter((int(row["video"]), row["policy"]) for row in rows)
    done = {
        (video, policy)
        for (video, policy), answers in count.items()
        if answers == plan.needles and video < plan.videos and policy in plan.policies
    }
    rows = [row for row in rows if (int(row["video"]), row["policy"]) in done]
    todo = {
        i: own
        for i in range(plan.videos)
        if (own := {p: m for p, m in plan.policies.items() if (i, p) not in done})
    }
    progress = Progress("evaluate", plan.videos, done=plan.videos - len(todo))
    # Rows that the plan does not have go; in one step, so that a kill here loses nothing.
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        for i, policies in todo.items():
            video = folder / f"video-{i:04d}.mp4"
            cases = draw_video(
                video, seconds=plan.seconds, seed=plan.first_seed + i, needles=plan.kinds(i)
            )
            clip = read(model, video)
            video.unlink()
            answers = answer_all(model, clip, cases, policies)
            fresh = [{"video": i, **row} for row in answers]
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
    letters = "".join(POLICIES)
    parser.add_argument("--policies", default=letters, help="letters of the table's columns")
    parser.add_argument("--folder", type=Path, default=Path("runs/evaluate"))
    options = parser.parse_args()
    model = ViLAMP.from_pretrained(options.model, device="cpu")
    policies = {letter: METHODS[letter] for letter in options.policies}
    plan = Plan(options.videos, options.seconds, options.needles, policies)
    text = table(run(model, options.folder, plan))
    (options.folder / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
