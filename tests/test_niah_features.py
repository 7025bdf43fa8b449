"""Kept features: the answers without them, each frame looked at once, within the space given."""

import pytest
import torch
from model_truth import truths_of_parts
from niah_files import small_cases
from vilamp import ViLAMP
from vilamp.cache import Cache
from vilamp.evaluation.models import Question, ViLAMPVideoModel
from vilamp.niah import features as module
from vilamp.niah.feature_model import FeatureSession, FeatureViLAMP
from vilamp.niah.features import Features
from vilamp.niah.playlist import Opened, Piece

from vilamp_kernels.testing import assert_within_budget


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return small_cases(tmp_path_factory.mktemp("cases"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Several parts in a video of a minute, the last not full; batches that do not divide them."""
    monkeypatch.setattr(module, "CHUNK", 16)


@pytest.fixture
def looked_at(model, monkeypatch):
    """Frames that each tower was given."""
    counts = {"embed_frames": 0, "patches": 0}
    for name in counts:
        tower = getattr(model, name)

        def counted(frames, name=name, tower=tower):
            counts[name] += len(frames)
            return tower(frames)

        monkeypatch.setattr(model, name, counted)
    return counts


def needed(cases, opened):
    """Frames of the sources in whole parts, as far as any case reaches."""
    ends = {}
    for case in cases.cases:
        for piece in cases.playlist(case, opened).pieces:
            whole = min(-(-piece.stop // 16) * 16, len(opened[piece.path]))
            ends[piece.path] = max(ends.get(piece.path, 0), whole)
    return sum(ends.values())


def test_the_same_as_without(model, cases, tmp_path):
    opened = Opened()
    kept = FeatureViLAMP(model, Features(model, Cache(tmp_path / "features"), batch=5))
    plain = ViLAMPVideoModel(model)
    for case in (cases.cases[0], cases.cases[3], cases.cases[-1]):
        questions = [Question(q.question) for q in case.questions]
        wanted = list(plain.answers(cases.playlist(case, opened), questions))
        found = list(kept.answers(cases.playlist(case, opened), questions))
        again = list(kept.answers(cases.playlist(case, opened), questions))
        assert wanted == found == again


def features(model, session, question):
    """Embeddings of the frames and the visual tokens."""
    query, embeds = model.embed_query(question), session._embeddings()
    with torch.no_grad():
        return embeds, session._merge(query, model.select(embeds, query), [()])[0][0]


@pytest.fixture(scope="module")
def truths(model, cases):
    """Of the features of one case."""
    case = cases.cases[3]
    question, playlist = case.questions[0].question, cases.playlist(case, Opened())
    return truths_of_parts(model, lambda m: features(m, m.session(playlist), question))


@pytest.mark.parametrize("passes", [1, 2], ids=["computed", "kept"])
def test_the_same_tokens_as_without(model, cases, truths, tmp_path, passes):
    playlist = cases.playlist(cases.cases[3], Opened())
    question = cases.cases[3].questions[0].question
    found = []
    for number in range(passes + 1):
        session = (
            FeatureSession(model, playlist, Features(model, Cache(tmp_path / "features")))
            if number
            else model.session(playlist)
        )
        found.append(features(model, session, question))
        assert session._times == list(range(len(playlist)))
    # Other batches of the tower, so other roundings.
    for given in (found[0], found[-1]):
        for out, truth in zip(given, truths, strict=True):
            assert_within_budget(out, truth)
    assert torch.equal(found[1][1], found[-1][1])


def test_each_frame_is_looked_at_once(model, cases, tmp_path, looked_at):
    opened = Opened()
    for _ in range(2):
        # A new object each time, as in another process.
        kept = FeatureViLAMP(model, Features(model, Cache(tmp_path / "features")))
        for case in cases.cases:
            asked = [Question(q.question) for q in case.questions[:2]]
            list(kept.answers(cases.playlist(case, opened), asked))
        assert looked_at == dict.fromkeys(looked_at, needed(cases, opened))


def test_a_stopped_look_goes_on_at_the_next_part(model, cases, tmp_path, looked_at):
    opened = Opened()
    case = cases.cases[0]
    longest = max(cases.playlist(case, opened).pieces, key=len)
    piece, size = Piece(longest.path, 0, 44), (128, 128)

    def stop(count):
        if looked_at["patches"] == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Features(model, Cache(tmp_path / "f"), 4).parts(opened, piece, size, stop))
    kept = Features(model, Cache(tmp_path / "f"), 4)
    parts = list(kept.parts(opened, piece, size))
    assert [len(patches) for _, patches in parts] == [16, 16, 12]
    # Up to the end of the part that holds frame 43; 4 of the second part were looked at twice.
    assert looked_at["patches"] == 48 + 4


def test_damaged_and_lost_parts_are_computed_again(model, cases, tmp_path):
    opened, folder = Opened(), tmp_path / "features"
    longest = max(cases.playlist(cases.cases[0], opened).pieces, key=len)
    piece, size = Piece(longest.path, 3, 40), (128, 128)
    wanted = torch.cat([p for _, p in Features(model, Cache(folder)).parts(opened, piece, size)])
    # The part between the two stays: it is not to be taken for either.
    first, _, third = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    first.unlink()
    third.write_bytes(third.read_bytes()[:1000])
    found = torch.cat([p for _, p in Features(model, Cache(folder)).parts(opened, piece, size)])
    assert torch.equal(wanted, found) and len(list(folder.glob("*.safetensors"))) == 3


def test_too_little_space_is_another_way_to_the_same_answers(model, cases, tmp_path):
    playlist = cases.playlist(cases.cases[0], Opened())
    questions = [Question(q.question) for q in cases.cases[0].questions]
    frame = 64 * 128 * 4 + 64 * 4
    held = {p.path: len(playlist.opened[p.path]) for p in playlist.pieces}
    ends = {path: max(p.stop for p in playlist.pieces if p.path == path) for path in held}
    frames = sum(min(-(-end // 16) * 16, held[path]) for path, end in ends.items())
    enough = Features(model, Cache(tmp_path / "enough", frames * frame))
    little = Features(model, Cache(tmp_path / "little", frames * frame - 1))
    assert enough.fits(playlist) and not little.fits(playlist)
    found = list(FeatureViLAMP(model, little).answers(playlist, questions))
    assert found == list(ViLAMPVideoModel(model).answers(playlist, questions))
    assert not (tmp_path / "little").exists()


def test_other_weights_have_other_features(model, cases, tmp_path, looked_at):
    opened = Opened()
    piece = Piece(cases.playlist(cases.cases[0], opened).pieces[0].path, 0, 8)
    cache = Cache(tmp_path / "features")
    list(Features(model, cache).parts(opened, piece, (128, 128)))
    before = looked_at["patches"]
    list(Features(model, cache).parts(opened, piece, (96, 128)))
    assert looked_at["patches"] == 2 * before, "another size is another picture"
    bias = model.projector[0].bias
    with torch.no_grad():
        bias[0] += 1
    try:
        list(Features(model, cache).parts(opened, piece, (128, 128)))
    finally:
        with torch.no_grad():
            bias[0] -= 1
    assert looked_at["patches"] == 3 * before
