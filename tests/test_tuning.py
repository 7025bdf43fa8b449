"""The tables of tile sizes of the Triton kernels."""

import json

import pytest
import torch

from vilamp_kernels.triton import tuning


def test_the_first_rule_that_fits_is_used(tmp_path, monkeypatch):
    rules = [
        {"if": {"dtype": ["bf16"], "q": 4}, "use": {"BLOCK_Q": 4}},
        {"if": {"q": 16}, "use": {"BLOCK_Q": 16}},
    ]
    (tmp_path / "some_op.json").write_text(json.dumps(rules))
    monkeypatch.setattr(tuning, "FOLDER", tmp_path)
    assert tuning.config("some_op", dtype="bf16", q=3) == {"BLOCK_Q": 4}
    assert tuning.config("some_op", dtype="fp32", q=3) == {"BLOCK_Q": 16}
    with pytest.raises(LookupError, match="some_op: no rule"):
        tuning.config("some_op", dtype="bf16", q=17)


def test_a_table_is_not_changed_by_its_users():
    first = tuning.config("select_keyframes", dtype="fp32")
    first["num_warps"] = 0
    assert tuning.config("select_keyframes", dtype="fp32")["num_warps"] > 0


def test_names_of_dtypes():
    names = [tuning.name_of(t) for t in (torch.float32, torch.bfloat16, torch.float16)]
    assert names == ["fp32", "bf16", "fp16"]


@pytest.mark.parametrize("path", sorted(tuning.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_tables_can_be_read(path):
    for rule in json.loads(path.read_text()):
        assert set(rule) == {"if", "use"}
        assert rule["use"]["num_warps"] in (1, 2, 4, 8)
