"""The networks of the literature: that they are the published ones, and where the line refuses them."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch
from torch import nn

from calibration.network.checkpoint import load_checkpoint, load_network, save_checkpoint
from calibration.network.export import fold_batch_norm
from calibration.network.literature.weights import begin_with, load_resnet
from calibration.network.networks.network import LineNetwork
from calibration.network.networks.resnet import ResNet50
from calibration.network.networks.table import NETWORKS, build
from edge.core.errors import ConfigError, ModelError

SMALL = {name: max(row.features // 16, 1) for name, row in NETWORKS.items()}


def published(name: str, channels: int = 3, classes: int = 21) -> nn.Module:
    """A network of its published size, without values."""
    with torch.device("meta"):
        return build(name, channels, classes)


def parameters(network: nn.Module) -> int:
    return sum(weights.numel() for weights in network.parameters())


def test_resnet_50_is_the_published_one() -> None:
    network = published("resnet50", classes=1000)
    assert parameters(network) == 25_557_032
    assert parameters(network.encoder) == 23_508_032
    names = set(network.encoder.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight", "layer4.2.conv3.weight"} <= names
    assert len(names) == 318, "torchvision's 320 without fc"


def test_fcn_and_deeplab_v3_are_torchvisions_without_the_second_head() -> None:
    second_head = 9 * 1024 * 256 + 2 * 256 + (256 + 1) * 21
    assert parameters(published("fcn")) + second_head == 35_322_218
    assert parameters(published("deeplabv3")) + second_head == 42_004_074


@pytest.mark.parametrize(("name", "stride"), [("resnet50", 32), ("fcn", 8), ("deeplabv3", 8), ("deeplabv3plus", 16)])
def test_output_strides(name: str, stride: int) -> None:
    first, *_, last = published(name).encoder(torch.empty(1, 3, 128, 192, device="meta"))
    assert first.shape == (1, 256, 128 // 4, 192 // 4)
    assert last.shape == (1, 2048, 128 // stride, 192 // stride)


def test_dilation_replaces_stride_without_changing_what_a_pixel_sees() -> None:
    """On the grid of the strided network the dilated one computes the same, if its first dilated blocks agree."""
    strided, dilated = ResNet50(1, 2).double().eval(), ResNet50(1, 2, output_stride=8).double().eval()
    dilated.load_state_dict(strided.state_dict())
    seen = torch.randn(1, 1, 256, 256, dtype=torch.float64)
    with torch.no_grad():
        near, far = strided(seen)[-1], dilated(seen)[-1]
    torch.testing.assert_close(far[..., ::4, ::4], near)


def test_the_pooling_convolution_is_the_only_difference_of_the_two_deeplab_v3_plus() -> None:
    with_it, plain = published("deeplabv3plus"), published("deeplabv3plus_plain")
    assert parameters(with_it.pyramid.pooled) == 2048 * 256 + 2 * 256
    assert not list(plain.pyramid.pooled.parameters())
    joined = [network.pyramid.join[0][0].in_channels for network in (with_it, plain)]
    assert joined == [5 * 256, 4 * 256 + 2048]
    assert with_it.skip[0].out_channels == 48


def test_the_elu_unet_has_the_published_widths_and_a_sigmoid_a_defect() -> None:
    network = published("elu_unet", channels=1, classes=5)
    assert [level[0].out_channels for level in network.down] == [8, 16, 32, 64, 64, 128]
    assert not [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert sum(isinstance(layer, nn.ELU) for layer in network.modules()) == 2 * 11
    assert network(torch.empty(2, 1, 256, 1600, device="meta")).shape == (2, 4, 256, 1600)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_pixel_depends_on(name: str) -> None:
    """Of the first column the whole image where it is pooled, else a halo that ends."""
    torch.manual_seed(1)
    row = NETWORKS[name]
    network = build(name, 2, 3, SMALL[name]).double().eval()
    side = 64 if row.pools_globally else 640
    surface = torch.randn(1, 2, 64, side, dtype=torch.float64, requires_grad=True)
    logits = network(surface)
    (logits if row.classifies else logits[..., 0]).square().sum().backward()
    touched = surface.grad.abs().amax(dim=(0, 1, 2)).nonzero().max().item()
    assert (touched == side - 1) == row.pools_globally


@pytest.mark.parametrize("name", NETWORKS)
def test_a_checkpoint_carries_the_name_and_the_line_takes_only_what_has_a_halo(name: str, tmp_path: Path) -> None:
    network = build(name, 3, 5, SMALL[name])
    save_checkpoint(network, tmp_path / "n.pt", about={"recipe": "x"})
    loaded, about = load_network(tmp_path / "n.pt")
    assert (loaded.architecture, loaded.shape, about) == (name, (3, 5, SMALL[name]), {"recipe": "x"})
    for one, other in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    if isinstance(network, LineNetwork):
        assert load_checkpoint(tmp_path / "n.pt").shape == network.shape
        return
    says = "pools over the whole image" if NETWORKS[name].pools_globally else "is not the network of the line"
    with pytest.raises(ModelError, match=f"n.pt: {name} {says}"):
        load_checkpoint(tmp_path / "n.pt")


def test_the_commands_refuse_in_a_line_and_cost_knows_every_name(
    tmp_path: Path, foilsight: Callable[..., CompletedProcess[str]]
) -> None:
    save_checkpoint(build("deeplabv3plus", 3, 5, 4), tmp_path / "deep.pt")
    refused = foilsight("export", tmp_path / "deep.pt", tmp_path / "deep.onnx")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "no halo is large enough" in refused.stderr
    done = foilsight("cost", "--network", "deeplabv3", "--patch", 64, "--batch", 1)
    assert done.returncode == 0, done.stderr
    assert "39,634,757" in done.stdout, "the published one, of 5 classes"
    refused = foilsight("cost", "--network", "u-net")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def resnet_file(path: Path, features: int) -> dict[str, torch.Tensor]:
    """Weights as torchvision writes them: the state dict of encoder and fc, nothing else."""
    torch.manual_seed(5)
    state = ResNet50(3, features).state_dict() | {"fc.weight": torch.zeros(1000, 1), "fc.bias": torch.zeros(1000)}
    torch.save(state, path)
    return state


def test_resnet_weights_load_from_a_file_and_equal_channels_give_what_they_gave(tmp_path: Path) -> None:
    state = resnet_file(tmp_path / "resnet50.pth", 4)
    colour, gray, pair = (build("deeplabv3", channels, 2, 4) for channels in (3, 1, 2))
    for network in (colour, gray, pair):
        load_resnet(network.encoder, tmp_path / "resnet50.pth")
    assert torch.equal(colour.encoder.layer3[5].conv2.weight, state["layer3.5.conv2.weight"])
    seen = torch.randn(1, 1, 32, 32)
    wanted = colour.encoder.conv1(seen.expand(-1, 3, -1, -1))
    torch.testing.assert_close(gray.encoder.conv1(seen), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pair.encoder.conv1(seen.expand(-1, 2, -1, -1)), wanted, rtol=1e-4, atol=1e-5)


def test_where_pooling_ends_a_network_sees_as_far_as_it_says_and_no_farther() -> None:
    """Up to an edge on the grid, with positive weights, of which none hides what another sees."""
    torch.manual_seed(0)
    network = build("deeplabv3plus_windowed", 1, 2, 2).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.abs_().add_(0.01)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(1e6)
            layer.bias.data.fill_(0.5)
    edge = network.halo + 3 * network.grid
    web = torch.rand(1, 1, 2 * edge, network.grid, dtype=torch.float64, requires_grad=True)
    above, below = network(web).split(edge, dim=2)
    of_above, of_below = (
        torch.autograd.grad(part.sum(), web, retain_graph=True)[0].amax(dim=(0, 1, 3)) > 0 for part in (above, below)
    )
    beyond = max(int(of_above[edge:].sum()), int(of_below[:edge].sum()))
    assert network.halo - network.grid < beyond <= network.halo


@pytest.mark.parametrize("name", ["unet", "deeplabv3plus_windowed"])
def test_what_is_exported_does_as_the_network_without_a_batch_norm(name: str) -> None:
    torch.manual_seed(2)
    network = build(name, 1, 3, 2).double().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.1, 0.5)
    folded = fold_batch_norm(network)
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]
    seen = torch.rand(1, 1, 64, 32, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(folded(seen), network(seen))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    resnet_file(tmp_path / "wide.pth", 8)
    with pytest.raises(ModelError, match=r"wide\.pth: the weights of another network"):
        load_resnet(ResNet50(3, 4), tmp_path / "wide.pth")
    torch.save({"a": 1}, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd\.pth: not the weights of a ResNet-50"):
        load_resnet(ResNet50(3, 4), tmp_path / "odd.pth")
    torch.save({"conv1.weight": torch.zeros(32), 1: 2}, tmp_path / "flat.pth")
    with pytest.raises(ModelError, match=r"flat\.pth: the weights of another network"):
        load_resnet(ResNet50(3, 4), tmp_path / "flat.pth")
    with pytest.raises(ModelError, match=r"gone\.pth: checkpoint cannot be read"):
        load_resnet(ResNet50(3, 4), tmp_path / "gone.pth")
    save_checkpoint(build("fcn", 3, 2, 4), tmp_path / "fcn.pt")
    with pytest.raises(ModelError, match=r"fcn of 3 channels, 2 classes .* of fcn of 3 channels, 4 classes"):
        begin_with(build("fcn", 3, 4, 4), tmp_path / "fcn.pt")
    with pytest.raises(ConfigError, match="there is no network 'vgg': choose of unet"):
        build("vgg", 3, 2)
