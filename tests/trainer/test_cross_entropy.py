import pytest
import torch
from torch.nn import functional

from domainlm.trainer import cross_entropy
from domainlm.trainer.cross_entropy import summed_cross_entropy


@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_chunks_give_the_loss_and_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch, z_loss: float) -> None:
    monkeypatch.setattr(cross_entropy, "CPU_ELEMENTS", 64 * 97)  # chunks of 64 tokens: 300 make five
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(300, 16, generator=generator, requires_grad=True)
    weight = torch.randn(97, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 97, (300,), generator=generator)
    targets[::7] = -100
    loss = summed_cross_entropy(hidden, weight, targets, z_loss=z_loss)
    torch.autograd.backward(loss / 300)
    got = [loss.detach(), hidden.grad, weight.grad]
    hidden.grad = weight.grad = None

    logits = hidden @ weight.T
    squares = logits.logsumexp(-1)[targets >= 0].square().sum()
    wanted = functional.cross_entropy(logits, targets, reduction="sum") + z_loss * squares
    torch.autograd.backward(wanted / 300)
    for mine, plain in zip(got, [wanted.detach(), hidden.grad, weight.grad], strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-6)


def test_a_sequence_without_targets_costs_nothing() -> None:
    hidden = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(9, 4, requires_grad=True)
    loss = summed_cross_entropy(hidden, weight, torch.full((5,), -100))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert hidden.grad is not None
    assert hidden.grad.abs().sum().item() == 0
