"""Models as their papers write them, without any thought of speed, to compare ours with.

Each is a whole classifier, from token ids, (B, L), to logits, (B, 2), with PyTorch's own dropout.

Shapes: B batch, L length, D width, H heads, K head width, N states, R slots.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, HIDDEN, LAYERS, VOCABULARY = 64, 2, 128, 2, 257
# Makes a model for sequences of a length, with a probability of dropout.
Make = Callable[[int, float], nn.Module]


class Plain(nn.Module):
    """Embedding, pre-norm layers, mean, and a classifier of one hidden layer."""

    def __init__(
        self, length: int, dropout: float, mixer: Callable[[], nn.Module], *, has_ffn: bool = True
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Embedding(length, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.mixers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(WIDTH), mixer()) for _ in range(LAYERS)
        )
        self.ffns = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(WIDTH),
                nn.Linear(WIDTH, HIDDEN),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Linear(HIDDEN, WIDTH),
                nn.Dropout(dropout),
            )
            for _ in range(LAYERS if has_ffn else 0)
        )
        self.head = classifier()

    def forward(self, tokens_BL: Tensor) -> Tensor:
        places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        x_BLD = self.dropout(self.tokens(tokens_BL) + self.places(places_L))
        for number, mixer in enumerate(self.mixers):
            x_BLD = x_BLD + self.dropout(mixer(x_BLD))
            if len(self.ffns):
                x_BLD = x_BLD + self.ffns[number](x_BLD)
        logits: Tensor = self.head(x_BLD.mean(1))
        return logits


def classifier() -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
    )


class Heads(nn.Module):
    """Queries, keys and values of each head, to what a function makes of them, and back."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.attend = attend
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        query, key, value = self.qkv(x_BLD).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.out(self.attend(query, key, value).transpose(1, 2).flatten(2))
        return mixed


def attention(attend: Callable[..., Tensor]) -> Callable[[int, float], nn.Module]:
    return lambda length, dropout: Plain(length, dropout, lambda: Heads(attend))


def linear(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key = F.elu(query) + 1, F.elu(key) + 1
    summary = torch.einsum("bhlk,bhlv->bhkv", key, value)
    norm = 1 / (torch.einsum("bhlk,bhk->bhl", query, key.sum(2)) + 1e-6)
    return torch.einsum("bhlk,bhkv,bhl->bhlv", query, summary, norm)


def cosformer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    length = query.shape[2]
    angle = math.pi / 2 * torch.arange(length, device=query.device)[:, None] / length
    query, key = F.relu(query), F.relu(key)
    query = torch.cat((query * angle.cos(), query * angle.sin()), dim=-1)
    key = torch.cat((key * angle.cos(), key * angle.sin()), dim=-1)
    summary = torch.einsum("bhlk,bhlv->bhkv", key, value)
    norm = 1 / torch.einsum("bhlk,bhk->bhl", query, key.sum(2)).clamp(min=1e-6)
    return torch.einsum("bhlk,bhkv,bhl->bhlv", query, summary, norm)


class FixedPattern(nn.Module):
    """The fixed pattern of the Sparse Transformer as a mask of all pairs."""

    def __init__(self, length: int, stride: int, num_summaries: int) -> None:
        super().__init__()
        place_L = torch.arange(length)
        same = place_L[:, None] // stride == place_L // stride
        is_summary = place_L % stride >= stride - num_summaries
        self.seen_LL = nn.Buffer(same | is_summary)
        self.heads = Heads(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=self.seen_LL)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        mixed: Tensor = self.heads(x_BLD)
        return mixed


class FactorizedRandom(nn.Module):
    """Synthesizer: the same learned scores for every example, a product of two thin tables."""

    def __init__(self, length: int, rank: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(HEADS, length, rank))
        self.right = nn.Parameter(torch.randn(HEADS, length, rank))
        self.value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        weights = (self.left @ self.right.mT).softmax(-1)
        value = self.value(x_BLD).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        mixed: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class S4D(nn.Module):
    """The listing of the paper in both directions: powers written out, then a transform."""

    def __init__(self, dropout: float, num_states: int = 64) -> None:
        super().__init__()
        half = num_states // 2
        low, high = math.log(0.001), math.log(0.1)
        self.log_step = nn.Parameter(torch.rand(WIDTH) * (high - low) + low)
        self.log_real = nn.Parameter(torch.full((WIDTH, half), 0.5).log())
        self.imag = nn.Parameter(math.pi * torch.arange(half).expand(WIDTH, -1).clone().float())
        self.output = nn.Parameter(torch.randn(2, WIDTH, half, 2) * 0.5**0.5)
        self.skip = nn.Parameter(torch.randn(WIDTH))
        self.after = nn.Sequential(
            nn.GELU(), nn.Dropout(dropout), nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.GLU(dim=1)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        x_BDL = x_BLD.mT
        length = x_BDL.shape[-1]
        poles = torch.complex(-self.log_real.exp(), self.imag)
        decay = poles * self.log_step.exp()[:, None]
        weight = torch.view_as_complex(self.output) * (decay.exp() - 1) / poles
        powers = (decay[..., None] * torch.arange(length, device=x_BLD.device)).exp()
        kernel = 2 * torch.einsum("rdn,dnl->rdl", weight, powers).real
        around = F.pad(kernel[0], (0, length)) + F.pad(kernel[1].flip(-1), (length, 0))
        spectrum = torch.fft.rfft(x_BDL, n=2 * length) * torch.fft.rfft(around)
        mixed = torch.fft.irfft(spectrum, n=2 * length)[..., :length]
        out: Tensor = self.after(mixed + x_BDL * self.skip[:, None])
        return out.mT


class Luna(nn.Module):
    """Luna with nn.MultiheadAttention, whose weights are not asked for."""

    def __init__(self, length: int, dropout: float, num_memory: int = 256) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(length, WIDTH)
        self.memory = nn.Parameter(torch.randn(num_memory, WIDTH) * WIDTH**-0.5)
        self.dropout = nn.Dropout(dropout)
        attention = {"embed_dim": WIDTH, "num_heads": HEADS, "bias": False, "batch_first": True}
        self.pack, self.unpack = (
            nn.ModuleList(nn.MultiheadAttention(**attention) for _ in range(LAYERS))
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2 * LAYERS))
        self.ffns = Plain(1, dropout, nn.Identity).ffns
        self.head = classifier()

    def forward(self, tokens_BL: Tensor) -> Tensor:
        places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        x = self.dropout(self.tokens(tokens_BL) + self.places(places_L))
        memory = self.memory.expand(len(x), -1, -1)
        for number, (pack, unpack) in enumerate(zip(self.pack, self.unpack, strict=True)):
            here, there = self.norms[2 * number](x), self.norms[2 * number + 1](memory)
            packed = pack(there, here, here, need_weights=False)[0]
            x = x + self.dropout(unpack(here, packed, packed, need_weights=False)[0])
            x = x + self.ffns[number](x)
            memory = memory + self.dropout(packed)
        logits: Tensor = self.head(x.mean(1))
        return logits


class TorchEncoder(nn.Module):
    """All layers by nn.TransformerEncoder, which drops weights of attention as well."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        states: Tensor = self.layers(x_BLD)
        return states


class Whole(nn.Module):
    """Embedding, all layers at once, and the classifier."""

    def __init__(self, length: int, dropout: float, layers: nn.Module) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(length, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.layers = layers
        self.head = classifier()

    def forward(self, tokens_BL: Tensor) -> Tensor:
        places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        x_BLD = self.dropout(self.tokens(tokens_BL) + self.places(places_L))
        logits: Tensor = self.head(self.layers(x_BLD).mean(1))
        return logits
