"""A trunk whose layers can be undone, so that training keeps the states of the last one alone.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lra_bench.models.draws import Replay
from lra_bench.models.encoder import EncoderSpec, MixerFactory, SequenceEncoder
from lra_bench.models.layers import Dropout, Embedding, FeedForward, layer_norm
from lra_bench.models.precision import uncompiled

FeedForwardFactory = Callable[[EncoderSpec], FeedForward]


class ReversibleEncoder(SequenceEncoder):
    """Embedding, positions, and reversible layers of a mixer and a feed-forward part.

    There are two streams of states, which begin alike. A layer adds to the first what its mixer
    makes of the second, and then to the second what its feed-forward part makes of the first: both
    can be subtracted again. So the backward pass computes the input of each layer from its output,
    and what lies inside with it, instead of keeping both from the forward pass. Memory does not
    grow with the number of layers, but for parameters and their gradients; a step computes each
    layer twice.

    What was drawn at random (dropout, hashes) is drawn once more, and what was decided (buckets,
    two bytes a position, head and round) is kept. The rest differs from what was computed first by
    the rounding of a sum; the streams are float32 at least.

    Args:
        spec: Sizes.
        mixer: Makes the mixer of one layer.
        feed_forward: Makes the part after the mixer; what it adds is its ``branch``.
        recompute: Keep nothing and compute again; false keeps everything: the same numbers, faster.

    Source: arXiv 2001.04451, section 3, equations 7 to 9, after arXiv 1707.04585; norms are inside
    the branches, as there. The paper does not say how the streams begin and end; in the released
    code (google/trax, models/reformer) both begin with the embedding, and an encoder goes on with
    the norm of their mean, as here; a language model has both side by side. The feed-forward part
    is not cut into chunks of positions.
    """

    takes = ("positions=none", "input=linear")

    def __init__(
        self,
        spec: EncoderSpec,
        *,
        mixer: MixerFactory,
        feed_forward: FeedForwardFactory = FeedForward,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.width = spec.width
        self.recompute = recompute
        self.embedding = Embedding(spec)
        self.layers = nn.ModuleList(
            _Layer(spec, mixer, feed_forward) for _ in range(spec.num_layers)
        )
        self.norm = layer_norm(spec)
        named = [name for layer in self._layers() for name in layer.mixed.mixer.topologies]
        self.topologies = tuple(dict.fromkeys(named))

    def forward(
        self, tokens_BL: Tensor, mask_BL: Tensor | None = None, *, topology: str | None = None
    ) -> Tensor:
        """See `SequenceEncoder.forward`."""
        self.check_topology(topology)
        x_BLD = self.embedding(tokens_BL)
        # Kept wide: what is added must be there again when it is subtracted.
        x_BLD = x_BLD.to(torch.promote_types(x_BLD.dtype, torch.float32))
        mean_BLD = _through(self._layers(), x_BLD, mask_BL, topology, self.recompute)
        states_BLD: Tensor = self.norm(mean_BLD)
        return states_BLD

    def _layers(self) -> list[_Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    if TYPE_CHECKING:
        __call__ = forward


class _Layer(nn.Module):
    """A mixer that reads the second stream, and a feed-forward part that reads the first."""

    def __init__(
        self, spec: EncoderSpec, mixer: MixerFactory, feed_forward: FeedForwardFactory
    ) -> None:
        super().__init__()
        self.mixed = _Mixed(spec, mixer)
        self.feed_forward = feed_forward(spec)


class _Mixed(nn.Module):
    """Norm, mixer, dropout: what is added."""

    def __init__(self, spec: EncoderSpec, mixer: MixerFactory) -> None:
        super().__init__()
        self.norm = layer_norm(spec)
        self.mixer = mixer(spec)
        self.dropout = Dropout(spec.dropout)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor | None, topology: str | None) -> Tensor:
        # Most mixers have one pattern and take no such argument.
        mix: Callable[..., Tensor] = self.mixer
        options = {"topology": topology} if topology in self.mixer.topologies else {}
        return self.dropout(mix(self.norm(x_BLD), mask_BL, **options))

    if TYPE_CHECKING:
        __call__ = forward


# Compiled, the backward pass could not build the small graphs that it needs.
@uncompiled
def _through(
    layers: Sequence[_Layer],
    x_BLD: Tensor,
    mask_BL: Tensor | None,
    topology: str | None,
    recompute: bool,
) -> Tensor:
    """Return the mean of both streams behind all layers, (B, L, D)."""
    branches: list[_Branch] = []
    for layer in layers:
        branches += [
            _Branch(layer.mixed, layer.mixed, (mask_BL, topology)),
            _Branch(layer.feed_forward, layer.feed_forward.branch, ()),
        ]
    if recompute and torch.is_grad_enabled():
        parameters = [each for branch in branches for each in branch.parameters]
        mean_BLD: Tensor = _Reversible.apply(x_BLD, branches, *parameters)  # type: ignore[no-untyped-call]
        return mean_BLD
    changed, read = x_BLD, x_BLD
    for branch in branches:
        # The next one reads what this one has changed.
        changed, read = read, changed + branch(read)
    return (changed + read) / 2


class _Branch:
    """A part of a layer that reads one stream and adds to the other.

    Args:
        module: Whose parameters and random numbers it takes.
        function: Makes what is added out of what is read.
        others: What else the function is given.
    """

    def __init__(
        self, module: nn.Module, function: Callable[..., Tensor], others: tuple[Any, ...]
    ) -> None:
        self.module, self.function, self.others = module, function, others
        self.parameters = [each for each in module.parameters() if each.requires_grad]
        self.replay: Replay | None = None

    def __call__(self, read: Tensor) -> Tensor:
        return self.function(read, *self.others)

    def noted(self, read: Tensor) -> Tensor:
        """Compute it so that it can be computed once more."""
        self.replay = Replay(self.module, read.device)
        with self.replay.noting():
            return self(read)

    def undone(
        self, changed: Tensor, read: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Go back over what was noted.

        Args:
            changed: The stream that was added to, after it.
            read: The stream that was read.
            grad: Of what was added.

        Returns:
            The stream before it was added to, and the gradients of what was read and of the
            parameters.
        """
        assert self.replay is not None
        with torch.enable_grad(), self.replay.again():
            read = read.detach().requires_grad_()
            added = self(read)
        inputs = [read, *self.parameters]
        grads = torch.autograd.grad(added, inputs, grad.to(added.dtype), allow_unused=True)
        of_read = torch.zeros_like(read) if grads[0] is None else grads[0]
        return changed - added.detach(), of_read, list(grads[1:])


class _Reversible(torch.autograd.Function):
    """All layers at once, of which only what comes out is kept."""

    @staticmethod
    def forward(ctx: Any, x_BLD: Tensor, branches: Sequence[_Branch], *_: Tensor) -> Tensor:
        changed, read = x_BLD, x_BLD
        for branch in branches:
            changed, read = read, changed + branch.noted(read)
        ctx.branches = branches
        device = x_BLD.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        ctx.save_for_backward(changed, read)
        return (changed + read) / 2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        changed, read = ctx.saved_tensors
        grad_changed = grad_read = grads[0] / 2
        parameters: list[list[Tensor | None]] = []
        # Without its cache, which would hold a copy of every matrix until the end.
        device, dtype, enabled = ctx.autocast
        with torch.autocast(device, dtype, enabled, cache_enabled=False):
            for branch in reversed(ctx.branches):
                # As before the two were exchanged.
                changed, read = read, changed
                grad_changed, grad_read = grad_read, grad_changed
                changed, more, of_parameters = branch.undone(changed, read, grad_changed)
                grad_read = grad_read + more
                parameters.append(of_parameters)
        flat = [each for some in reversed(parameters) for each in some]
        return grad_changed + grad_read, None, *flat
