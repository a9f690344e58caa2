"""Foreign weights: proposed, shown, and complete or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from groundup.core.errors import CheckpointError
from groundup.models.convert import carry_over, propose, read_foreign, read_mapping


def _net(names: list[str] | None = None, counters: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
    )
    return model


def _renamed(state: dict[str, torch.Tensor], change) -> dict[str, torch.Tensor]:
    return {change(name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (lambda name: name, "same name"),
        (lambda name: f"module.{name}", "same name without 'module.'"),
        (lambda name: f"net.layer{name}", "the whole sequence of layers agrees"),
    ],
    ids=["same", "prefix", "other"],
)
def test_every_tensor_finds_its_place(change, how) -> None:
    source, model = _net(), _net()
    with torch.no_grad():
        for tensor in source.parameters():
            tensor.add_(torch.randn_like(tensor))
    theirs = _renamed(source.state_dict(), change)
    mapping = propose(theirs, model)
    assert mapping.complete
    assert {row.how for row in mapping.rows} == {how}
    inputs = torch.randn(2, 1, 9, 9)
    found, wanted = carry_over(mapping, theirs, model).eval(), source.eval()
    assert torch.equal(found[:4](inputs), wanted[:4](inputs))
    assert torch.equal(found[4].weight, wanted[4].weight)


def test_names_in_order_of_the_alphabet_are_not_taken_for_the_order_of_layers() -> None:
    """As in a safetensors file: layers.10 stands before layers.2, and a first layer's name may sort last."""

    def net(first: str, second: str) -> nn.Module:
        model = nn.Module()
        model.layers = nn.ModuleList()
        for _ in range(12):
            layer = nn.Module()
            setattr(layer, first, nn.Linear(4, 4))
            setattr(layer, second, nn.Linear(4, 4, bias=False))
            model.layers.append(layer)
        return model

    numbered = net("a", "b").state_dict()
    mapping = propose({f"net.{n}": numbered[n] for n in sorted(numbered)}, net("x", "y"))
    assert len(mapping.guesses) == 36, "nothing tells the layers apart, so nothing is taken for sure"
    assert all(r.theirs == f"net.{r.ours.replace('.x.', '.a.').replace('.y.', '.b.')}" for r in mapping.rows)
    turned = net("squeeze", "expand").state_dict()
    mapping = propose({f"net.{n}": turned[n] for n in sorted(turned)}, net("x", "y"))
    assert mapping.complete
    assert len(mapping.guesses) == len(mapping.rows) == 36
    with pytest.raises(CheckpointError, match="36 of 36 tensors fit several places by their shape"):
        mapping.demand("convert")
    confirmed = propose(
        {f"net.{n}": turned[n] for n in sorted(turned)}, net("x", "y"), {r.theirs: r.ours for r in mapping.rows}
    )
    assert confirmed.demand("convert").guesses == ()


def test_what_is_open_is_listed_and_nothing_is_written() -> None:
    model = _net()
    theirs = {f"x.{name}": tensor for name, tensor in _net().state_dict().items() if not name.startswith("3.")}
    theirs["x.extra"] = torch.zeros(7)
    mapping = propose(theirs, model)
    assert not mapping.complete
    assert [name for name, _ in mapping.open_theirs] == ["x.extra"]
    assert len(mapping.open_ours) == 2
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"1 tensors of theirs without a place: x\.extra \(7,\)\. 2 tensors of ours"
    ):
        carry_over(mapping, theirs, model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_names_may_be_given_and_what_carries_nothing_declared(tmp_path: Path) -> None:
    model = _net()
    theirs = {f"x.{name}": tensor for name, tensor in _net().state_dict().items()}
    swapped = {"x.2.weight": "3.weight", "x.3.weight": "2.weight"}
    mapping = propose({**theirs, "extra": torch.zeros(7)}, model, swapped, ["extra"])
    assert mapping.complete
    assert {row.theirs: row.ours for row in mapping.rows}["x.2.weight"] == "3.weight"
    (tmp_path / "mapping.toml").write_text(mapping.to_toml())
    names, unused = read_mapping(tmp_path / "mapping.toml")
    assert unused == ("extra",)
    assert propose({**theirs, "extra": torch.zeros(7)}, model, names, unused).rows
    for given_names, said in (
        ({"x.9.weight": "2.weight"}, "which the file does not have"),
        ({"x.2.weight": "2.weigth"}, r"which the model does not have\. Did you mean '2\.weight'"),
        ({"x.0.weight": "2.weight"}, r"is \(4, 1, 3, 3\), the model's '2\.weight' is \(4, 4, 3, 3\)"),
        ({"x.2.weight": "2.weight", "x.3.weight": "2.weight"}, "more than one tensor"),
    ):
        with pytest.raises(CheckpointError, match=said):
            propose(theirs, model, given_names)
    with pytest.raises(CheckpointError, match="unused names 'no'"):
        propose(theirs, model, unused=["no"])
    (tmp_path / "bad.toml").write_text("name = 1")
    with pytest.raises(CheckpointError, match=r"expected a table \[names\]"):
        read_mapping(tmp_path / "bad.toml")


def test_counters_may_be_missing_on_either_side() -> None:
    theirs = {f"m.{n}": t for n, t in _net().state_dict().items() if not n.endswith("num_batches_tracked")}
    mapping = propose(theirs, _net())
    assert mapping.complete
    assert mapping.kept == ("1.num_batches_tracked",)
    both = propose(
        {**theirs, "m.9.num_batches_tracked": torch.tensor(3), "m.8.num_batches_tracked": torch.tensor(3)}, _net()
    )
    assert both.complete
    assert len(both.unused) == 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([(2,), (3,), (2, 3)]), max_size=6),
    st.lists(st.sampled_from([(2,), (3,), (2, 3)]), max_size=6),
)
def test_every_tensor_of_both_sides_is_accounted_for(
    theirs: list[tuple[int, ...]], ours: list[tuple[int, ...]]
) -> None:
    model = nn.Module()
    for i, shape in enumerate(ours):
        model.register_parameter(f"p{i}", nn.Parameter(torch.zeros(shape)))
    named = {f"t.{i}": torch.zeros(shape) for i, shape in enumerate(theirs)}
    mapping = propose(named, model)
    assert sorted([*(r.theirs for r in mapping.rows), *(n for n, _ in mapping.open_theirs)]) == sorted(named)
    assert sorted([*(r.ours for r in mapping.rows), *(n for n, _ in mapping.open_ours)]) == sorted(model.state_dict())
    assert all(named[r.theirs].shape == model.state_dict()[r.ours].shape for r in mapping.rows)


FILES = {
    "w_resnet_cifar10/resnet20-12fca82f.th": ("module.conv1.weight", 97),
    "w_mobilenetv1_025/mobilenetV1X0.25_pretrain.tar": ("module.stage1.0.0.weight", 164),
    "w_squeezenet11_ncnn/squeezenet1_1_torchvision_keys.pth": ("features.0.weight", 52),
    "w_squeezenet11_ncnn/squeezenet1_1_torchvision_keys.safetensors": ("features.0.weight", 52),
}


@pytest.mark.parametrize("file", FILES)
def test_published_torch_files_are_read_on_the_cpu(shared_data: Path, file: str) -> None:
    if not (shared_data / file).is_file():
        pytest.skip(f"{file} is not there")
    tensors = read_foreign(shared_data / file)
    name, count = FILES[file]
    assert (name in tensors, len(tensors)) == (True, count)
    assert {tensor.device.type for tensor in tensors.values()} == {"cpu"}


class Planted:
    def __reduce__(self):
        return (print, ("this must not be carried out",))


def test_a_file_that_would_run_code_or_holds_no_tensors_is_refused(tmp_path: Path, capsys) -> None:
    torch.save({"state_dict": Planted()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="cannot be read as tensors alone"):
        read_foreign(tmp_path / "evil.pt")
    assert "must not" not in capsys.readouterr().out
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r"holds no tensors by name; read \['epoch'\]"):
        read_foreign(tmp_path / "none.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "none.pt").read_bytes()[:40])
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_foreign(tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"no such file\. Did you mean 'none.pt'"):
        read_foreign(tmp_path / "non.pt")
