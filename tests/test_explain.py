"""What can be named is found, told from its own signature, and what is told can be pasted into a recipe."""

from __future__ import annotations

import tomllib
from types import ModuleType
from typing import Any

import pytest

from groundup.core.errors import GroundupError
from groundup.core.use import HOMES, Use, check, resolve
from groundup.explain import PLACES, explain, list_parts

EVERYTHING = list_parts()
NAMES = [(slot, name) for slot in HOMES for name in list_parts(slot).slots[slot]]


def test_a_name_is_explained_from_its_signature_and_docstring() -> None:
    (part,) = explain("AdamW").parts
    arguments = {argument.name: argument for argument in part.arguments}
    assert part.slots == ("optimizer",)
    assert part.path.startswith("groundup.optim")
    assert arguments["params"].filled_in
    assert (arguments["lr"].kind, arguments["lr"].default) == ("float", "0.001")
    shown = str(explain("AdamW"))
    assert "Loshchilov and Hutter" in shown
    assert 'training.optimizer = { use = "AdamW", lr = 0.001' in shown
    assert repr(explain("AdamW")) == shown


def test_a_name_in_several_places_is_told_for_each() -> None:
    parts = {part.slots: part for part in explain("LSTM").parts}
    assert len(parts) == 2, "the model and the layer"
    assert any(slots == ("model",) for slots in parts)
    assert any("layers" in slots for slots in parts)


def test_an_import_path_is_explained_too() -> None:
    shown = str(explain("torch.nn:Bilinear"))
    assert "in1_features" in shown
    assert 'use = "torch.nn:Bilinear"' in shown
    (linear,) = explain("torch.nn:Linear").parts
    assert [argument.name for argument in linear.arguments if argument.filled_in] == ["in_features", "out_features"]
    assert linear.lines == ('model = { use = "Sequential", layers = [{ use = "torch.nn:Linear", bias = true }] }',)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Adamw", "there is no part named 'Adamw'. Did you mean 'AdamW' (optimizer)"),
        ("cross_entropi", "Did you mean 'cross_entropy' (loss)"),
        ("optimizer", "'optimizer' is a place in a recipe. What fits there: groundup list optimizer"),
        ("zzzzzz", "there is no part named 'zzzzzz'. See: groundup list"),
        ("torch.nn:Bilinea", "Did you mean 'Bilinear'?"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_of_every_slot(name: str, said: str) -> None:
    with pytest.raises(GroundupError) as refused:
        explain(name)
    assert said in str(refused.value)


def test_an_unknown_slot_is_told() -> None:
    with pytest.raises(GroundupError, match=r"there is no slot 'optimiser'\. Did you mean 'optimizer'\?"):
        list_parts("optimiser")


def test_every_slot_is_listed_and_every_name_once() -> None:
    assert list(EVERYTHING.slots) == list(HOMES)
    for slot in HOMES:
        assert EVERYTHING.slots[slot] or slot in EVERYTHING.also
        whole = dict(EVERYTHING.slots[slot])
        for other in EVERYTHING.also.get(slot, ()):
            whole = {**EVERYTHING.slots[other], **whole}
        assert set(whole) == set(list_parts(slot).slots[slot])
    assert "AdamW" in str(EVERYTHING)


@pytest.mark.parametrize(("slot", "name"), NAMES)
def test_every_name_says_in_one_line_what_it_is(slot: str, name: str) -> None:
    text = list_parts(slot).slots[slot][name]
    assert text, f"{name} has no docstring"
    assert "\n" not in text
    assert "`" not in text


def calls(value: Any, name: str) -> list[dict[str, Any]]:
    """Every table in a TOML value that uses ``name``."""
    if isinstance(value, dict):
        own = [value] if value.get("use") == name else []
        return own + [call for inner in value.values() for call in calls(inner, name)]
    return [call for inner in value for call in calls(inner, name)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", sorted({name for _, name in NAMES}))
def test_what_is_told_can_be_pasted_into_a_recipe(name: str) -> None:
    for part in explain(name).parts:
        assert part.lines
        for line in part.lines:
            (call, *_) = calls(tomllib.loads(line), name)
            arguments = {n: v for n, v in call.items() if n != "use" and "..." not in repr(v)}
            checked = check(Use(name, **arguments), part.slots[0], "recipe")
            assert resolve(checked.target, "") is resolve(part.path, "")


def test_every_slot_has_a_place_or_is_an_argument_of_another_call() -> None:
    arguments = {"layer", "branches", "activation", "norm", "positions", "router", "tokenizer", "steps"}
    arguments |= {"train", "valid", "test", "detector"}
    assert set(PLACES) | arguments >= set(HOMES)


def test_explaining_a_function_without_a_docstring(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    module = ModuleType("undocumented")
    monkeypatch.setitem(sys.modules, "undocumented", module)

    def thing(x: int, *rest: int, y: str = "a", **more: int) -> None: ...

    thing.__module__ = "undocumented"
    module.thing = thing  # type: ignore[attr-defined]
    shown = str(explain("undocumented:thing"))
    assert "(no description)" in shown
    assert 'use = "undocumented:thing", x = 1, y = "a"' in shown
