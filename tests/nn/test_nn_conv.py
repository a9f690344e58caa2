"""Convolution and pooling over series, images and volumes against torch's own and against plain sums."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from groundup.core.errors import RecipeError
from groundup.nn import (
    AveragePool1d,
    BatchNorm1d,
    BatchNorm3d,
    Conv1d,
    Conv2d,
    Conv3d,
    DenseBlock,
    DepthwiseConv1d,
    DepthwiseConv2d,
    GlobalAveragePool1d,
    GlobalAveragePool3d,
    GlobalMaxPool1d,
    GlobalMaxPool2d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    MaxPool1d,
    MaxPool3d,
    ResidualBlock,
    RMSNorm,
    SeparableConv1d,
    SeparableConv2d,
    SqueezeExcite,
    TransposedConv1d,
    TransposedConv2d,
    TransposedConv3d,
    conv,
)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


SERIES, IMAGES, VOLUMES = _random(2, 12, 4), _random(2, 4, 9, 11), _random(2, 4, 6, 7, 8)


def test_a_convolution_over_time_is_its_sum():
    layer = Conv1d(3, kernel=3, padding="causal", dilation=2, in_features=4).double()
    outputs = layer(SERIES)
    weight, bias = layer.conv.weight, layer.conv.bias
    for t in range(12):
        expected = bias.clone()
        for tap in range(3):
            past = t - 2 * (2 - tap)
            if past >= 0:
                expected = expected + SERIES[:, past] @ weight[:, :, tap].T
        torch.testing.assert_close(outputs[:, t], expected.expand(2, 3))
    same = Conv1d(3, in_features=4).double()
    theirs = F.conv1d(SERIES.transpose(1, 2), same.conv.weight, same.conv.bias, padding=1)
    torch.testing.assert_close(same(SERIES), theirs.transpose(1, 2))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_keeps_the_size_divided_by_the_stride(stride, dilation):
    options = {"stride": stride, "dilation": dilation}
    assert Conv1d(5, in_features=4, **options).double()(SERIES).shape == (2, -(-12 // stride), 5)
    assert Conv2d(5, [3, 5], in_channels=4, **options).double()(IMAGES).shape == (
        2,
        5,
        -(-9 // stride),
        -(-11 // stride),
    )
    expected = (2, 5, *(-(-size // stride) for size in (6, 7, 8)))
    assert Conv3d(5, in_channels=4, **options).double()(VOLUMES).shape == expected
    assert SeparableConv2d(5, in_channels=4, **options).double()(IMAGES).shape[2:] == (
        -(-9 // stride),
        -(-11 // stride),
    )


def test_depthwise_and_separable_are_grouped_convolutions():
    layer = DepthwiseConv2d(multiplier=2, in_channels=4).double()
    expected = F.conv2d(IMAGES, layer.weight, layer.bias, padding=1, groups=4)
    torch.testing.assert_close(layer(IMAGES), expected)
    separable = SeparableConv2d(5, in_channels=4).double()
    between = F.conv2d(IMAGES, separable.depthwise.weight, padding=1, groups=4)
    torch.testing.assert_close(
        separable(IMAGES),
        torch.einsum("bchw,oc->bohw", between, separable.pointwise.weight[..., 0, 0])
        + separable.pointwise.bias[:, None, None],
    )
    narrow = DepthwiseConv1d(in_features=4).double()
    other = SERIES.clone()
    other[..., 1] += 1
    changed = (narrow(other) - narrow(SERIES)).abs().amax((0, 1))
    assert (changed > 0).tolist() == [False, True, False, False]
    assert SeparableConv1d(7, padding="causal", in_features=4).double()(SERIES).shape == (2, 12, 7)


def test_a_transposed_convolution_is_the_gradient_of_one():
    layer = TransposedConv2d(3, in_channels=4, bias=False).double()
    up = layer(IMAGES)
    assert up.shape == (2, 3, 18, 22)
    large = torch.zeros(2, 3, 18, 22, dtype=torch.float64, requires_grad=True)
    down = F.conv2d(large, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(torch.autograd.grad(down, large, IMAGES)[0], up)
    assert TransposedConv1d(3, kernel=5, stride=3, in_features=4).double()(SERIES).shape == (2, 36, 3)
    assert TransposedConv3d(3, in_channels=4).double()(VOLUMES).shape == (2, 3, 12, 14, 16)
    with pytest.raises(RecipeError, match="take a kernel of 4"):
        TransposedConv2d(3, kernel=3, in_channels=4)


def test_pooling():
    torch.testing.assert_close(MaxPool1d(3)(SERIES), SERIES.view(2, 4, 3, 4).amax(2))
    torch.testing.assert_close(AveragePool1d(4)(SERIES), SERIES.view(2, 3, 4, 4).mean(2))
    torch.testing.assert_close(MaxPool3d()(VOLUMES)[:, :, 0, 0, 0], VOLUMES[:, :, :2, :2, :2].amax((2, 3, 4)))
    torch.testing.assert_close(GlobalAveragePool3d()(VOLUMES), VOLUMES.mean((2, 3, 4)))
    torch.testing.assert_close(GlobalMaxPool2d()(IMAGES), IMAGES.amax((2, 3)))
    lengths = torch.tensor([12, 5])
    for pool, reduce in ((GlobalAveragePool1d(), torch.mean), (GlobalMaxPool1d(), torch.amax)):
        torch.testing.assert_close(pool(SERIES, lengths)[1], reduce(SERIES[1, :5], 0))
        torch.testing.assert_close(pool(SERIES), reduce(SERIES, 1))


def test_norms_are_their_formulas():
    def normal(values: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
        return (values - values.mean(dims, keepdim=True)) / (values.var(dims, correction=0, keepdim=True) + 1e-5).sqrt()

    grouped = IMAGES.view(2, 2, 2, 9, 11)
    torch.testing.assert_close(
        GroupNorm(2, in_channels=4).double()(IMAGES), normal(grouped, (2, 3, 4)).view(2, 4, 9, 11)
    )
    torch.testing.assert_close(InstanceNorm1d(in_features=4).double()(SERIES), normal(SERIES, (1,)))
    torch.testing.assert_close(InstanceNorm2d(in_channels=4).double()(IMAGES), normal(IMAGES, (2, 3)))
    torch.testing.assert_close(BatchNorm1d(in_features=4).double()(SERIES), normal(SERIES, (0, 1)))
    torch.testing.assert_close(BatchNorm3d(in_channels=4).double()(VOLUMES), normal(VOLUMES, (0, 2, 3, 4)))
    plain, around = RMSNorm(in_features=4).double(), RMSNorm(in_features=4, around_one=True).double()
    torch.testing.assert_close(around(SERIES), plain(SERIES))
    plain.weight.data += 0.5
    around.weight.data += 0.5
    torch.testing.assert_close(around(SERIES), plain(SERIES))
    assert torch.autograd.gradcheck(around, SERIES[:, :2].clone().requires_grad_())
    with pytest.raises(RecipeError, match="3 groups must divide the 4 channels"):
        GroupNorm(3, in_channels=4)


def test_blocks_of_image_networks():
    block = SqueezeExcite(2, in_channels=4).double()
    weights = block.excite(torch.relu(block.squeeze(IMAGES.mean((2, 3))))).sigmoid()
    torch.testing.assert_close(block(IMAGES), IMAGES * weights[:, :, None, None])
    dense = DenseBlock(3, growth=5, in_channels=4).double()
    outputs = dense(IMAGES)
    assert outputs.shape == (2, 19, 9, 11)
    torch.testing.assert_close(outputs[:, :4], IMAGES)
    assert [part[2].in_channels for part in dense.parts] == [4, 9, 14]
    residual = ResidualBlock(in_channels=4).double().eval()
    torch.testing.assert_close(residual(IMAGES), torch.relu(IMAGES + residual.inner(IMAGES)))
    assert ResidualBlock(8, stride=2, squeeze=4, in_channels=4).double()(IMAGES).shape == (2, 8, 5, 6)


@pytest.mark.parametrize("layer", [Conv1d, Conv2d, Conv3d])
def test_what_does_not_divide_is_refused(layer):
    with pytest.raises(RecipeError, match="3 groups must divide"):
        layer(6, groups=3, **{"in_features" if layer is Conv1d else "in_channels": 4})
    with pytest.raises(RecipeError, match="odd kernel"):
        layer(6, kernel=4, stride=2, **{"in_features" if layer is Conv1d else "in_channels": 4})


def _is_channels_last(images: torch.Tensor) -> bool:
    return images.stride()[1] == 1 and images.stride()[3] == images.shape[1]


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"kernel": 1}, {"dilation": 2}])
def test_images_go_through_with_channels_last_and_weights_stay_as_they_are(channels, options):
    torch.manual_seed(0)
    layer = Conv2d(8, **options, in_channels=channels)
    plain = torch.nn.Conv2d(channels, 8, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    plain.load_state_dict(layer.state_dict())
    inputs = torch.randn(4, channels, 12, 10)
    found, wanted = layer(inputs), plain(inputs)
    assert _is_channels_last(found)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for model, outputs in ((layer, found), (plain, wanted)):
        outputs.square().mean().backward()
        assert model.weight.is_contiguous()
        assert model.weight.grad.is_contiguous()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-5)
    assert layer(inputs[0]).shape == found[0].shape  # one image without a batch


def test_small_images_stay_as_the_many_kernels_are():
    """Kernels of 3 x 3 over 64 channels are more numbers than the images; those of 1 x 1 have no order to change."""
    images = torch.randn(1, 64, 6, 6)
    assert Conv2d(64, in_channels=64)(images).is_contiguous()
    assert _is_channels_last(Conv2d(64, 1, in_channels=64)(images))
    assert _is_channels_last(Conv2d(64, in_channels=64)(images.expand(32, -1, -1, -1)))
    assert Conv2d(64, in_channels=64)(images.to(memory_format=torch.channels_last)).is_contiguous()


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    ("kernel", "options", "exact"),
    [
        (7, {"padding": 3}, True),
        (3, {"padding": 1, "stride": 2}, True),
        (3, {"padding": 1, "stride": 2, "bias": False}, True),
        (3, {"padding": 1}, False),
        (7, {"padding": 3, "groups": 1}, False),
    ],
)
def test_gradients_of_a_depthwise_layer_in_bf16(monkeypatch, kernel, options, exact, autocast):
    torch.manual_seed(0)
    calls = []
    carried = conv._ExactGradients.apply
    monkeypatch.setattr(conv._ExactGradients, "apply", lambda *given: (calls.append(1), carried(*given))[1])
    layer = Conv2d(8, kernel, **{"groups": 8, **options}, in_channels=8)
    inputs = torch.randn(2, 8, 10, 10).requires_grad_()
    outputs = layer(inputs)
    weights = torch.randn(outputs.shape)
    leaves = (inputs, *layer.parameters())
    wanted = torch.autograd.grad((outputs * weights).sum(), leaves)
    assert not calls
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            outputs = layer(inputs)
    else:
        inputs = inputs.detach().bfloat16().requires_grad_()
        outputs = layer.bfloat16()(inputs)
        leaves = (inputs, *layer.parameters())
    assert outputs.dtype == torch.bfloat16
    found = torch.autograd.grad((outputs.float() * weights).sum(), leaves)
    assert bool(calls) == exact
    for ours, theirs, leaf in zip(found, wanted, leaves, strict=True):
        assert ours.dtype == leaf.dtype
        assert (ours.float() - theirs).norm() < 0.02 * theirs.norm()
