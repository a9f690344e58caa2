"""What a recipe may start from, how foreign weights become that, and what is said where they do not."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import groundup
from groundup import DataRecipe, Recipe, Training, Use, cli, terminal, workflow
from groundup.core.errors import CheckpointError, GroundupError, MissingExtraError, RecipeError
from groundup.core.recipe import Evaluation
from groundup.core.run import Run
from groundup.core.use import make
from groundup.data.tokenization import Characters
from groundup.models import Bert, CifarResNet, Llama, MobileNetV1, SqueezeNet
from groundup.models.bert import BertConfig
from groundup.models.convert import read_mapping
from groundup.models.hugging_face import INDEX, read_folder, write_folder
from groundup.models.mobilenet_v1 import MobileNetV1Config
from groundup.models.squeezenet import SqueezeNetConfig
from groundup.models.start import open_start
from groundup.serving import Predictor
from groundup.stages.designing import design

CIFAR = ["CifarResNet", "depth=8", "num_classes=10", "in_channels=1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def silent():
    with terminal.quiet():
        yield


def _digits(start: str | None, model: Use | None = None, **training: Any) -> Recipe:
    return Recipe(
        name="digits",
        data=DataRecipe(
            source=Use("scikit_learn", dataset="digits"),
            split=Use("stratified", column="label"),
            samples=Use("Images", image="image", target="label"),
        ),
        **({} if model is None else {"model": model}),
        start=start,
        training=Training(
            objective=Use("supervised", loss="cross_entropy"), **{"steps": 3, "compile": "off", **training}
        ),
        evaluation=Evaluation(metrics=(Use("accuracy"),)),
    )


def _foreign(model: nn.Module, file: Path, change: Any = lambda name: f"module.{name}") -> nn.Module:
    """A file as training scripts leave it: their own names, under a key, beside other things."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {change(name): tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, file)
    return model.eval()


# --- convert


def test_a_converted_file_is_what_a_recipe_starts_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = _foreign(CifarResNet(8, num_classes=10, in_channels=1), tmp_path / "a.th")
    assert cli.main(["convert", "a.th", *CIFAR]) == 0
    shown = capsys.readouterr().out
    assert "same name without 'module.'" in shown
    assert f"{len(model.state_dict())} matched, 0 guessed, 0 unused, 0 kept, 0 without a place, 0 missing" in shown
    assert sorted(path.name for path in Path("models/a").iterdir()) == [
        "mapping.toml", "model.safetensors", "model.toml"
    ]  # fmt: skip
    with terminal.quiet():
        prepared = workflow.prepare(_written(_digits("models/a")))
        found = design(prepared).eval()
        inputs = prepared.first("test", 4).inputs["inputs"]
        assert torch.equal(found(inputs), model(inputs)), "the weights are the file's"
        measured = groundup.evaluate(_written(_digits("models/a")))
        folder = groundup.train(_digits("models/a"), out=Path("run"))
    assert measured.metrics["accuracy"].n == len(prepared.encoded["test"])
    about = json.loads((folder / "start.json").read_text())
    assert about["folder"] == str(tmp_path / "models" / "a")
    assert len(about["sha256"]["model.safetensors"]) == 64
    assert "Started from" in (folder / "report.html").read_text()


def _written(recipe: Recipe) -> Path:
    path = Path(f"{recipe.name}.toml")
    path.write_text(recipe.to_toml())
    return path


def test_what_was_trained_needs_the_folder_no_longer(tmp_path: Path, silent: None) -> None:
    _foreign(CifarResNet(8, num_classes=10, in_channels=1), tmp_path / "a.th")
    groundup.convert("a.th", *CIFAR)
    folder = groundup.train(_digits("models/a"), out=Path("run"))
    before = groundup.evaluate(folder)
    (tmp_path / "models" / "a").rename(tmp_path / "elsewhere")
    assert groundup.evaluate(folder).metrics == before.metrics
    chosen = json.loads((folder / "chosen.json").read_text())["checkpoint"]
    assert isinstance(Predictor.load(folder / chosen).model, CifarResNet), "within the packages that are trusted"
    again = Run.open(folder).recipe()
    (tmp_path / "elsewhere").rename(tmp_path / "models" / "a")
    assert groundup.evaluate(groundup.train(again, out=Path("again"))).metrics == before.metrics


def test_a_downloaded_folder_names_no_code_of_others(tmp_path: Path, silent: None) -> None:
    _foreign(CifarResNet(8, num_classes=10, in_channels=1), tmp_path / "a.th")
    groundup.convert("a.th", *CIFAR)
    for target in ("os:system", "groundup.workflow:shutil.rmtree"):
        Path("models/a/model.toml").write_text(f'use = "{target}"')
        with pytest.raises(GroundupError, match=r"outside groundup|reaches through"):
            groundup.check(_digits("models/a"))
    made = Use("Published", model=Use("os:system"))
    with pytest.raises(RecipeError, match="outside groundup"):
        make(made, "model")


def test_a_family_becomes_a_published_folder(tmp_path: Path, silent: None) -> None:
    config = MobileNetV1Config(depth_multiplier=0.25, tf_padding=False, num_channels=1, num_labels=5)
    model = _foreign(MobileNetV1(config), tmp_path / "m.pt")
    words = ["depth_multiplier=0.25", "tf_padding=false", "num_channels=1", "num_labels=5"]
    folder = groundup.convert("m.pt", "MobileNetV1", *words)
    images = torch.randn(2, 1, 32, 32)
    found = read_folder(folder).eval()
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    torch.testing.assert_close(found(images), model(images))  # kernels differ by where in memory weights begin
    again = groundup.convert("m.pt", folder, out=Path("again"))
    assert (again / "config.json").read_text() == (folder / "config.json").read_text()


def test_pickled_weights_beside_a_config_are_read_by_their_published_names(tmp_path: Path, silent: None) -> None:
    """Those that are changed on the way included: gpt2 is published transposed, with one tensor for three of ours."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained("old")
    Path("old/model.safetensors").unlink()
    torch.save(theirs.state_dict(), "old/pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pytorch_model.bin .*groundup convert old/pytorch_model.bin old"):
        read_folder("old")
    folder = groundup.convert("old/pytorch_model.bin", "old")
    tokens = torch.randint(0, 50, (2, 9))
    torch.testing.assert_close(read_folder(folder)(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def test_a_recipes_own_model_is_filled_and_starts_there(tmp_path: Path, silent: None) -> None:
    layers = [Use("Flatten"), Use("Dense", features=16), Use("ReLU"), Use("Dense")]
    recipe = _digits(None, Use("Sequential", layers=layers))
    trained = design(workflow.prepare(recipe))
    _foreign(trained, tmp_path / "s.pt", lambda name: f"net.{name}")
    folder = groundup.convert("s.pt", _written(recipe))
    stated = workflow.prepare(_digits(str(folder), recipe.model))
    left_open = workflow.prepare(_digits(str(folder)))
    for prepared in (stated, left_open):
        found = design(prepared)
        assert all(torch.equal(a, b) for a, b in zip(found.parameters(), trained.parameters(), strict=True))


def test_guesses_are_written_down_and_carried_out_only_when_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = CifarResNet(8, num_classes=10, in_channels=1).eval()
    theirs = {name: name.replace("steps", "inner") for name in model.state_dict() if "num_batches" not in name}
    state = {theirs[name]: model.state_dict()[name] for name in theirs}
    save_file(state, "a.safetensors")  # which keeps no order of layers
    assert cli.main(["convert", "a.safetensors", *CIFAR]) == 1
    out, err = capsys.readouterr()
    assert "guessed by order among equal shapes" in out
    assert "look the proposal over and give it back" in " ".join(err.split())
    assert not Path("models/a").exists()
    proposal = Path("models/a-mapping.toml")
    assert "# guessed" in proposal.read_text()
    assert cli.main(["convert", "a.safetensors", *CIFAR]) == 1
    assert "lies there already. Give it back with --mapping" in " ".join(capsys.readouterr().err.split())
    lines = [f'"{name}" = "{ours}"' for ours, name in theirs.items()]
    proposal.write_text("[names]\n" + "\n".join(lines))
    assert cli.main(["convert", "a.safetensors", *CIFAR, "--mapping", str(proposal)]) == 0
    assert f"{len(state)} matched, 0 guessed" in capsys.readouterr().out
    with terminal.quiet():
        found = design(workflow.prepare(_digits("models/a"))).eval()
    inputs = torch.randn(2, 1, 8, 8)
    assert torch.equal(found(inputs), model(inputs))
    assert cli.main(["convert", "a.safetensors", *CIFAR, "--mapping", str(proposal)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_what_is_open_is_shown_and_a_comment_in_the_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _foreign(CifarResNet(8, num_classes=10, in_channels=1, width=8), tmp_path / "a.th")
    assert cli.main(["convert", "a.th", *CIFAR]) == 1
    out, err = capsys.readouterr()
    assert "OPEN: without a place in the model" in out
    assert "MISSING: nothing in the file for it" in out
    assert "the mapping is not complete" in err
    proposal = Path("models/a-mapping.toml").read_text()
    assert '# theirs without a place: "module.stem.convolution.weight" (8, 1, 3, 3)' in proposal
    assert '# ours without a source: "stem.convolution.weight" (16, 1, 3, 3)' in proposal
    assert read_mapping("models/a-mapping.toml")[0]["module.head.bias"] == "head.bias"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["none.th", *CIFAR], "none.th: there is no such file. Did you mean 'one.th'?"),
        (["one.th", "CifarResnet"], "there is no 'CifarResnet' in groundup.models"),
        (["one.th", "CifarResNet"], "CifarResNet needs 'num_classes'"),
        (["one.th", "CifarResNet", "dept=8"], "takes no argument 'dept'. Did you mean 'depth'?"),
        (["one.th", ".", "depth=8"], "says what the model is by its config.json"),
        (["one.th", "."], "holds no published model: expected config.json"),
        (["one.th", *CIFAR, "--mapping", "no.toml"], "no.toml: cannot be read as a mapping"),
    ],
)
def test_a_conversion_that_cannot_be_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: list[str], said: str
) -> None:
    _foreign(CifarResNet(8, num_classes=10, in_channels=1), tmp_path / "one.th")
    assert cli.main(["convert", *line]) == 1
    assert said in capsys.readouterr().err


# --- start


def _squeeze(folder: str, labels: int = 12) -> SqueezeNet:
    torch.manual_seed(1)
    model = SqueezeNet(SqueezeNetConfig(num_channels=1, num_labels=labels)).eval()
    write_folder(model, folder)
    return model


def _images(start: str, model: Use | None = None) -> Any:
    recipe = _digits(start, model)
    samples = recipe.data.samples.with_arguments(size=32)
    return workflow.prepare(dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, samples=samples)))


def test_a_head_for_other_classes_starts_anew_and_says_so(silent: None) -> None:
    published = _squeeze("m")
    prepared = _images("m")
    assert prepared.start.notes == ("the head, which gives 10 numbers, starts anew; that there gives 12",)
    found = design(prepared).eval()
    inputs = torch.randn(3, 1, 32, 32)
    assert found(inputs).shape == (3, 10)
    weights = found.steps.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in published.steps.state_dict().items())
    torch.testing.assert_close(found.steps(inputs), published.steps(inputs))  # whose weights lie elsewhere in memory


def test_chosen_classes_of_the_published_head_are_kept(silent: None) -> None:
    published = _squeeze("m")
    chosen = [11, 0, 2, 3, 4, 5, 6, 7, 8, 9]
    prepared = _images("m", Use("Published", classes=chosen))
    assert prepared.start.notes == ()
    inputs = torch.randn(3, 1, 32, 32)
    found = design(prepared).eval()(inputs)
    torch.testing.assert_close(found, published(inputs)[:, chosen])
    for classes, said in (([1, 2], "read 2 numbers, and the data ask for 10"), ([12, *range(9)], "from 0 to 11")):
        with pytest.raises(RecipeError, match=said):
            _images("m", Use("Published", classes=classes))


def test_a_model_and_data_that_do_not_go_together_are_refused(silent: None) -> None:
    torch.manual_seed(0)
    write_folder(SqueezeNet(SqueezeNetConfig(num_labels=10)), "colour")
    with pytest.raises(
        RecipeError, match=r"sees images of 3 channels, and the data's have 1; set data.samples.channels = 3"
    ):
        _images("colour")
    write_folder(Llama(50, 1), "words")
    with pytest.raises(RecipeError, match="words gives words, and the data ask for 10"):
        _images("words")
    with pytest.raises(RecipeError, match="takes no other head"):
        _images("words", Use("Published", head="classes"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    write_folder(Bert(BertConfig(vocab_size=50, **sizes)), "states")
    with pytest.raises(RecipeError, match='head = "classes"'):
        open_start(Path("states"), Use("Published"), {"num_classes": 2})
    with pytest.raises(RecipeError, match=r"recipe.model.head: read 'class', expected .*'classes'"):
        open_start(Path("states"), Use("Published", head="class"), {"num_classes": 2})
    start = open_start(Path("states"), Use("Published", head="classes"), {"num_classes": 3})
    assert start.notes == ("the head, which gives 3 numbers, starts anew; there is none there",)
    assert start.read()(torch.arange(6)[None]).shape == (1, 3)
    with pytest.raises(RecipeError, match=r"config.json says what the model is. Leave model out"):
        _images("colour", Use("CifarResNet", depth=8))


def test_a_recipe_without_a_model_or_a_start_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.model: this field is required"):
        _digits(None)
    assert cli.main(["evaluate", str(_written(_digits(None, Use("MLP", hidden=[4]))))]) == 1
    assert "recipe.start: it names no weights" in capsys.readouterr().err


FAULTS = {
    "no folder": "there is no such folder. Did you mean 'm'",
    "a run": "is a run of groundup .* groundup finetune",
    "nothing": "holds no published model: expected config.json with model.safetensors or .*; there is a.txt",
    "a pickle": r"only pytorch_model.bin \(torch's pickle\). Convert it once: groundup convert",
    "a missing shard": "names the shard 'model-00002-of-0000.*', which is not there",
    "a cut file": "cannot be read",
    "another shape": r"'norm.weight' is \(7,\), config.json says \(64,\)",
    "a tensor too few": "the model needs a tensor for 'norm.weight'",
    "a tensor too many": "tensor 'model.more' has no place in this model",
    "a damaged config": "not valid JSON",
    "an unknown setting": "twist is not known to this family",
    "a missing setting": "hidden_size is missing",
    "no such family": "is not written out in groundup|neither groundup nor transformers",
}


def _spoil(fault: str, folder: Path) -> Path:
    torch.manual_seed(0)
    write_folder(Llama(50, 1), folder, shard_bytes=60_000 if fault == "a missing shard" else 10**9)
    single, config = folder / "model.safetensors", folder / "config.json"
    table = json.loads(config.read_text())
    if fault == "no folder":
        return folder.with_name("mm")
    if fault in ("a run", "nothing", "a pickle"):
        single.unlink()
        names = {"a run": "run.json", "nothing": "a.txt", "a pickle": "pytorch_model.bin"}
        (folder / names[fault]).write_bytes(b"{}")
        if fault != "a pickle":
            config.unlink()
    elif fault == "a missing shard":
        (folder / sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))[1]).unlink()
    elif fault == "a cut file":
        single.write_bytes(single.read_bytes()[:-50])
    elif "tensor" in fault or "shape" in fault:
        tensors = load_file(single)
        if fault == "a tensor too few":
            del tensors["model.norm.weight"]
        else:
            tensors["model.norm.weight" if "shape" in fault else "model.more"] = torch.zeros(7)
        save_file(tensors, single)
    elif fault == "a damaged config":
        config.write_text("{")
    else:
        changes = {"an unknown setting": {"twist": 1}, "no such family": {"model_type": "none_such"}}
        table |= changes.get(fault, {})
        if fault == "a missing setting":
            del table["hidden_size"]
        config.write_text(json.dumps(table))
    return folder


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_wrong_with_a_folder_is_named(fault: str, tmp_path: Path) -> None:
    folder = _spoil(fault, tmp_path / "m")
    with pytest.raises(GroundupError, match=FAULTS[fault]) as raised:
        open_start(folder, Use("Published"), {"vocab_size": 50}).read()
    assert folder.name in str(raised.value)


def test_a_name_is_fetched_once_and_without_a_hub_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, silent: None
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"cannot be reached or broke off.*copy the model's folder here"):
        groundup.check(_digits("org/squeeze"))
    _squeeze("models/squeeze")
    assert _images("org/squeeze").start.folder == Path("models/squeeze")


def test_fetching_is_a_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = []

    def download(name: str, out: Path | None, revision: str | None) -> Path:
        asked.append((name, out, revision))
        _squeeze("there")
        return Path("there")

    monkeypatch.setattr("groundup.stages.starting.fetch", download)
    assert cli.main(["fetch", "org/a", "--revision", "refs/pr/1", "--out", "there"]) == 0
    assert asked == [("org/a", Path("there"), "refs/pr/1")]
    shown = " ".join(capsys.readouterr().out.split())
    assert "its family, squeezenet, is written out here" in shown
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.main(["fetch", "org/a"]) == 1
    assert "pip install 'groundup[hub]'" in capsys.readouterr().err


# --- text, and families that are not here


def _words(folder: Path, source: str, **arguments: Any) -> Recipe:
    """A few lines of text in the tokens of a published tokenizer, which is one of characters here."""
    lines = [f"line {i} of {i * i} words" for i in range(60)]
    Path(source).write_text("\n\n".join(lines))
    Characters(unknown="error").fit(lines).save(folder)
    return Recipe(
        name="lines",
        start=str(folder),
        data=DataRecipe(
            source=Use("text_files", path=str(Path(source).resolve())),
            split=Use("contiguous", column="text", valid=0.2, test=0.2),
            samples=Use("PackedText", column="text", length=16, **arguments),
        ),
        training=Training(objective=Use("language_modelling"), steps=2, batch_size=4, compile="off"),
        evaluation=Evaluation(metrics=(Use("loss"), Use("bits_per_byte"))),
    )


def test_a_published_decoder_goes_on_with_its_own_tokenizer(silent: None) -> None:
    torch.manual_seed(0)
    write_folder(Llama(40, 1), "m")
    with pytest.raises(
        RecipeError, match=r"knows the tokens of its own tokenizer and no others. Take it: .*TokenizerFile"
    ):
        groundup.check(_words(Path("m"), "lines.txt", tokenizer=Use("Characters")))
    recipe = _words(Path("m"), "lines.txt", tokenizer=Use("TokenizerFile", path="m"))
    found = groundup.evaluate(groundup.train(recipe, out=Path("run")))
    assert found.metrics["loss"].value < 5
    assert groundup.predict("run", "line 3")[0]["prompt"] == "line 3"


def test_a_family_that_is_not_here_is_trained_and_the_report_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPTJConfig(vocab_size=40, n_embd=32, n_layer=1, n_head=4, rotary_dim=4, n_positions=64)
    transformers.GPTJForCausalLM(config).save_pretrained("gptj")
    recipe = _words(Path("gptj"), "lines.txt", tokenizer=Use("TokenizerFile", path="gptj"))
    folder = groundup.train(recipe, out=Path("run"))
    said = "the family 'gptj' is not written out in groundup; it runs through transformers"
    assert said in " ".join(capsys.readouterr().out.split())
    assert "runs through transformers" in (folder / "report.html").read_text()
    Path("gptj").rename("moved")
    with terminal.quiet():
        assert groundup.evaluate(folder).metrics["loss"].value > 0
    Path("moved").rename("gptj")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with terminal.quiet(), pytest.raises(MissingExtraError, match=r"pip install 'groundup\[transformers\]'"):
        groundup.check(recipe)


def test_loading_brings_no_compiler_along(tmp_path: Path) -> None:
    """Drawing values on the meta device would import it: more than a second for nothing."""
    write_folder(Llama(50, 1), "llama")
    _squeeze("squeeze")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    write_folder(Bert(BertConfig(vocab_size=50, **sizes)), "bert")
    code = (
        "import sys\nfrom groundup.models.hugging_face import read_folder\n"
        "for name in ('llama', 'squeeze', 'bert'): read_folder(name)\n"
        "assert not {'torch._dynamo', 'sympy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
