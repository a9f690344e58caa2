"""Image families against transformers' on tiny random weights, both ways; and published weights on real images."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from groundup.core.errors import DataError, RecipeError
from groundup.core.use import Use, make
from groundup.models import CifarResNet, MobileNetV1, SqueezeNet
from groundup.models.convert import carry_over, propose, read_foreign
from groundup.models.hugging_face import read_folder, write_folder
from groundup.models.mobilenet_v1 import MobileNetV1Config
from groundup.models.squeezenet import SqueezeNetConfig
from groundup.nn.weights import write_names

transformers = pytest.importorskip("transformers")

PATCHES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 24,
    "patch_size": 6,
    "num_labels": 5,
}
DINO = {**{n: v for n, v in PATCHES.items() if n != "intermediate_size"}, "layerscale_value": 0.7}
RESIDUAL = {"hidden_sizes": [16, 24], "depths": [2, 1], "embedding_size": 8, "num_labels": 5}
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "vit": ("ViTForImageClassification", PATCHES, 24),
    "vit, states": ("ViTModel", {n: v for n, v in PATCHES.items() if n != "num_labels"}, 24),
    "dinov2": ("Dinov2ForImageClassification", DINO, 24),
    "dinov2, another size": ("Dinov2ForImageClassification", DINO, 36),
    "dinov2, gated": ("Dinov2ForImageClassification", {**DINO, "use_swiglu_ffn": True}, 24),
    "dinov2, states": ("Dinov2Model", {n: v for n, v in DINO.items() if n != "num_labels"}, 24),
    "resnet": ("ResNetForImageClassification", {**RESIDUAL, "layer_type": "bottleneck"}, 64),
    "resnet, basic": ("ResNetForImageClassification", {**RESIDUAL, "layer_type": "basic"}, 64),
    "resnet, early strides": (
        "ResNetForImageClassification",
        {**RESIDUAL, "downsample_in_bottleneck": True, "downsample_in_first_stage": True},
        64,
    ),
    "resnet, states": ("ResNetModel", {n: v for n, v in RESIDUAL.items() if n != "num_labels"}, 64),
    "convnext": (
        "ConvNextForImageClassification",
        {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2, "layer_scale_init_value": 0.5, "num_labels": 5},
        32,
    ),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25, "num_labels": 5}, 64),
    "mobilenet_v1, odd size": ("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25, "num_labels": 5}, 51),
    "mobilenet_v1, plain padding": (
        "MobileNetV1ForImageClassification",
        {"depth_multiplier": 0.25, "tf_padding": False, "hidden_act": "relu", "num_labels": 5},
        64,
    ),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.35, "num_labels": 5}, 64),
    "mobilenet_v2, spread": (
        "MobileNetV2ForImageClassification",
        {"depth_multiplier": 0.35, "output_stride": 8, "first_layer_is_expansion": False, "num_labels": 5},
        65,
    ),
}


def _shake(model: torch.nn.Module, seed: int = 1) -> None:
    """Weights at their own scale, with norms and statistics that are not the neutral ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(1 + 0.3 * noise.abs())
            elif tensor.ndim == 1:
                around = 0.0 if name.endswith(("bias", "running_mean")) else 1.0
                tensor.copy_(around + 0.2 * noise)
            elif tensor.ndim == 4 or tensor.ndim == 2:
                tensor.copy_(noise * (2.0 / max(1, tensor[0].numel())) ** 0.5)
            else:
                tensor.copy_(0.3 * noise)


@pytest.fixture(params=CASES, scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Tensor]:
    name, sizes, side = CASES[request.param]
    kind = getattr(transformers, name)
    theirs = kind(kind.config_class(**sizes))
    _shake(theirs)
    folder = tmp_path_factory.mktemp("theirs") / "m"
    theirs.save_pretrained(folder)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    return theirs.eval(), read_folder(folder).eval(), images


def _wanted(theirs: Any, images: Tensor) -> Tensor:
    output = theirs(images)
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


def test_outputs_and_gradients_are_those_of_transformers(pair: Any) -> None:
    theirs, ours, images = pair
    wanted, found = _wanted(theirs, images), ours(images)
    scale = max(1.0, float(wanted.detach().abs().max()))
    torch.testing.assert_close(found, wanted, atol=1e-5 * scale, rtol=1e-5)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(5))
    for model, output in ((theirs, wanted), (ours, found)):
        model.zero_grad(set_to_none=True)
        (output * weights).mean().backward()
    gradients = write_names({n: p.grad for n, p in ours.named_parameters() if p.grad is not None}, ours.WEIGHTS)
    published = [p.grad for p in theirs.parameters() if p.grad is not None]
    sizes = [sorted(float(g.double().norm()) for g in found) for found in (published, gradients.values())]
    of_theirs, of_ours = ([g for g in found if g > 1e-6 * found[-1]] for found in sizes)  # a key's bias has none
    assert math.hypot(*of_ours) == pytest.approx(math.hypot(*of_theirs), rel=1e-4)
    if len(of_ours) == len(of_theirs):  # where what is published fused is held apart there, the sum must do
        assert of_ours == pytest.approx(of_theirs, rel=1e-3)


def test_transformers_reads_what_we_write(pair: Any, tmp_path: Path) -> None:
    theirs, ours, images = pair
    write_folder(ours, tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        wanted = _wanted(theirs, images)
        scale = max(1.0, float(wanted.abs().max()))
        torch.testing.assert_close(_wanted(again, images), wanted, atol=1e-5 * scale, rtol=1e-5)
        ours_again = read_folder(tmp_path / "ours").eval()
        assert torch.equal(ours_again(images), ours(images))
    assert ours_again.config == ours.config


def test_an_image_that_is_no_whole_number_of_patches_is_refused(pair: Any) -> None:
    _, ours, _ = pair
    if not hasattr(ours, "embedding"):
        pytest.skip("this family has no patches")
    with pytest.raises(DataError, match=r"25 x 24 is no whole number of patches of 6 x 6"):
        ours(torch.zeros(1, 3, 25, 24))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ResNet", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}),
        ("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 1], "layer_scale_init_value": 0.1}),
        ("MobileNetV1", {"depth_multiplier": 0.25, "tf_padding": False}),
        ("MobileNetV2", {"depth_multiplier": 0.35, "tf_padding": False}),
        ("ViT", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}),
        ("Dinov2", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}),
        ("CifarResNet", {"depth": 8}),
    ],
)
def test_one_from_a_recipe_takes_its_classes_and_channels_from_the_data_and_learns(name: str, sizes: Any) -> None:
    torch.manual_seed(0)
    patches = {"image_size": 32} if "patch_size" in sizes else {}
    model = make(Use(name, **sizes, **patches), "model", num_classes=4, in_channels=1, input_shape=(1, 32, 32))
    images = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(16) % 4
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert model(images).shape == (16, 4)
    assert min(losses[-5:]) < 0.7 * losses[0]


def test_the_depth_of_a_small_resnet_is_checked() -> None:
    with pytest.raises(RecipeError, match=r"depth is 21; expected 6 n \+ 2"):
        CifarResNet(21, num_classes=10)


# --- published weights


def _converted(file: Path, model: torch.nn.Module) -> torch.nn.Module:
    if not file.is_file():
        pytest.skip(f"{file.name} is not there")
    tensors = read_foreign(file)
    mapping = propose(tensors, model)
    assert mapping.complete
    assert len(mapping.rows) + len(mapping.unused) == len(tensors)
    return carry_over(mapping, tensors, model).eval()


def _by_hand(tensors: dict[str, Tensor], images: Tensor, blocks: int) -> Tensor:
    """The small ResNet written out on the file's own names."""

    def step(x: Tensor, name: str, number: int, stride: int = 1) -> Tensor:
        x = F.conv2d(x, tensors[f"{name}conv{number}.weight"], stride=stride, padding=1)
        norm = f"{name}bn{number}."
        mean, variance = tensors[norm + "running_mean"], tensors[norm + "running_var"]
        return F.batch_norm(x, mean, variance, tensors[norm + "weight"], tensors[norm + "bias"])

    x = F.relu(step(images, "module.", 1))
    for stage in (1, 2, 3):
        for i in range(blocks):
            stride = 2 if stage > 1 and i == 0 else 1
            name = f"module.layer{stage}.{i}."
            inner = step(F.relu(step(x, name, 1, stride)), name, 2)
            more = inner.shape[1] - x.shape[1]
            beside = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more // 2))
            x = F.relu(inner + beside)
    return F.linear(x.mean((2, 3)), tensors["module.linear.weight"], tensors["module.linear.bias"])


@pytest.mark.parametrize(("name", "depth"), [("resnet20-12fca82f.th", 20), ("resnet44-014dd654.th", 44)])
def test_a_legacy_file_with_cuda_storages_becomes_a_small_resnet(shared_data: Path, name: str, depth: int) -> None:
    file = shared_data / "w_resnet_cifar10" / name
    model = _converted(file, CifarResNet(depth, num_classes=10))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = _by_hand(read_foreign(file), images, (depth - 2) // 6)
        torch.testing.assert_close(model(images), wanted, atol=1e-4, rtol=1e-5)


def _ants_and_bees(shared_data: Path, side: int) -> tuple[Tensor, Tensor]:
    """Real photographs, short side to ``side`` + 32 and the middle cut out, and whether each shows a bee."""
    from PIL import Image

    archive = shared_data / "img_hymenoptera" / "hymenoptera_256.tar"
    if not archive.is_file():
        pytest.skip("img_hymenoptera is not there")
    images, bees = [], []
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.isfile() and "/val/" in f"/{m.name}" and m.name.endswith(".jpg")]
        for member in members:
            content = tar.extractfile(member)
            assert content is not None
            image = Image.open(io.BytesIO(content.read())).convert("RGB")
            factor = (side + 32) / min(image.size)
            image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BILINEAR)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            images.append(np.asarray(image.crop((left, top, left + side, top + side))))
            bees.append("bees" in member.name)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (pixels - mean) / deviation, torch.tensor(bees)


ANT, BEE = 310, 309
"""Classes of ImageNet."""


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_squeezenet_knows_ants_from_bees(shared_data: Path, ending: str, tmp_path: Path) -> None:
    folder = shared_data / "w_squeezenet11_ncnn"
    model = _converted(folder / f"squeezenet1_1_torchvision_keys.{ending}", SqueezeNet(SqueezeNetConfig()))
    images, bees = _ants_and_bees(shared_data, 224)
    with torch.no_grad():
        best = model(images).topk(5).indices
    target = torch.where(bees, BEE, ANT)[:, None]
    reference = json.loads((folder / "reference.json").read_text())["torchvision-preprocessing-folded"]
    found = {"top1": (best[:, :1] == target).float().mean(), "top5": (best == target).any(1).float().mean()}
    for name, value in found.items():  # its figures are of another sample of photographs
        assert float(value) == pytest.approx(reference[name], abs=0.15)
    write_folder(model, tmp_path / "m")
    again = read_folder(tmp_path / "m").eval()
    with torch.no_grad():
        assert torch.equal(again(images[:2]), model(images[:2]))


def test_a_quarter_mobilenet_with_leaky_activations_is_read(shared_data: Path) -> None:
    config = MobileNetV1Config(
        depth_multiplier=0.25,
        hidden_act="leaky_relu",
        negative_slope=0.1,
        tf_padding=False,
        layer_norm_eps=1e-5,
        num_labels=1000,
    )
    file = shared_data / "w_mobilenetv1_025" / "mobilenetV1X0.25_pretrain.tar"
    model = _converted(file, MobileNetV1(config))
    images, bees = _ants_and_bees(shared_data, 224)
    with torch.no_grad():
        best = model(images).topk(5).indices
    share = (best == torch.where(bees, BEE, ANT)[:, None]).any(1).float().mean()
    assert float(share) > 0.5, "half of the photographs, where guessing five of a thousand classes gives 0.005"
