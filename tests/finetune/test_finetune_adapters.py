"""Adapters are files that PEFT reads and writes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from groundup.core.errors import CheckpointError, RecipeError
from groundup.finetune import lora
from groundup.finetune.adapters import read_adapter, write_adapter
from groundup.finetune.lora import lora_layers, merge
from groundup.models import Llama
from groundup.models.hugging_face import write_folder

TOKENS = torch.randint(0, 60, (2, 21), generator=torch.Generator().manual_seed(0))


def _model() -> Llama:
    torch.manual_seed(0)
    return Llama(60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, tie_word_embeddings=False)


def _tuned(where: str = "blocks.*.attention.*") -> Llama:
    model = lora(_model(), rank=4, alpha=6.0, where=where)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.3)
    assert isinstance(model, Llama)
    return model


@pytest.mark.parametrize("where", ["blocks.*.attention.*", "blocks.1.feed_forward.[gd]*", "head"])
def test_there_and_back(tmp_path, where):
    model = _tuned(where)
    write_adapter(model, tmp_path / "a", model.WEIGHTS)
    again = read_adapter(_model(), tmp_path / "a", Llama.WEIGHTS)
    assert torch.equal(again(TOKENS), model(TOKENS))
    assert lora_layers(again) == lora_layers(model)
    trains = {name for name, p in again.named_parameters() if p.requires_grad}
    assert trains == {name for name, p in model.named_parameters() if p.requires_grad}
    write_adapter(model, tmp_path / "b")  # under our own names
    assert torch.equal(read_adapter(_model(), tmp_path / "b")(TOKENS), model(TOKENS))


def test_the_file_has_the_published_names(tmp_path):
    model = _tuned("blocks.0.attention.[qo]*")
    write_adapter(model, tmp_path / "a", model.WEIGHTS, base="some/model")
    config = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    targets = [f"model.layers.0.self_attn.{kind}_proj" for kind in "qo"]
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (4, 6.0, targets)
    shapes = {name: tuple(t.shape) for name, t in load_file(tmp_path / "a" / "adapter_model.safetensors").items()}
    assert shapes == {
        f"base_model.model.{t}.lora_{k}.weight": ((4, 32), (32, 4))[k == "B"] for t in targets for k in "AB"
    }


def test_peft_reads_and_writes_the_same(tmp_path):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    write_folder(_model(), tmp_path / "base")
    model = _tuned("blocks.*")
    write_adapter(model, tmp_path / "ours", model.WEIGHTS)
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "ours").eval()
    torch.testing.assert_close(theirs(TOKENS).logits, model(TOKENS), atol=1e-5, rtol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = read_adapter(_model(), tmp_path / "theirs", Llama.WEIGHTS)
    assert torch.equal(again(TOKENS), model(TOKENS))


def test_what_is_not_known_is_refused(tmp_path):
    model = _tuned()
    write_adapter(model, tmp_path / "a", model.WEIGHTS)
    with pytest.raises(CheckpointError, match="exists already"):
        write_adapter(model, tmp_path / "a", model.WEIGHTS)
    with pytest.raises(RecipeError, match="found none"):
        write_adapter(merge(model), tmp_path / "b", Llama.WEIGHTS)
    path = tmp_path / "a" / "adapter_config.json"
    table = json.loads(path.read_text())
    for changes, said in (({"use_dora": True}, "use_dora is True"), ({"rank_pattern": {"q": 2}}, "rank_pattern")):
        path.write_text(json.dumps({**table, **changes}))
        with pytest.raises(CheckpointError, match=said):
            read_adapter(_model(), tmp_path / "a", Llama.WEIGHTS)
    path.write_text(json.dumps({**table, "r": 5}))
    with pytest.raises(CheckpointError, match="other shapes"):
        read_adapter(_model(), tmp_path / "a", Llama.WEIGHTS)
    path.write_text(json.dumps(table))
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")

    def read_with(**changed: torch.Tensor) -> None:
        save_file({**tensors, **changed}, tmp_path / "a" / "adapter_model.safetensors")
        read_adapter(_model(), tmp_path / "a", Llama.WEIGHTS)

    with pytest.raises(CheckpointError, match="'extra' is not one of a LoRA layer"):
        read_with(extra=torch.zeros(1))
    with pytest.raises(CheckpointError, match=r"'model\.layers\.0\.conv\.weight' has no place"):
        read_with(**{"base_model.model.model.layers.0.conv.lora_A.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"'blocks\.7\.attention\.query' is no linear layer"):
        read_with(**{f"base_model.model.model.layers.7.self_attn.q_proj.lora_{k}.weight": torch.zeros(1) for k in "AB"})
    assert all(p.requires_grad for p in _model().parameters())
