"""What each model is measured against: packages that others have published, or the paper's text.

A peer is a whole classifier of the same sizes as ours: from token ids, (B, L), to logits, (B, 2).
A package that has only the part that mixes positions stands in `Plain`, the trunk that a tutorial
would write, with PyTorch's own dropout. Where no package can be installed, the peer is a version
written from the paper's definition (`textbook`), without any thought of speed; where that would be
as long as ours, there is only the dense Transformer to compare with.

Shapes: B batch, L length, D width, H heads, K head width, N states, R slots.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, HIDDEN, LAYERS, VOCABULARY = 64, 2, 128, 2, 257


@dataclass(frozen=True)
class Peer:
    """Something to compare with.

    Args:
        name: What it is, and of which version where that is a package.
        make: Makes it for sequences of a length, with a probability of dropout.
        module: What is imported for it; None if nothing but PyTorch.
        words: What ours is asked for beside its defaults, so that both do the same.
        required: The ratio ours / peer that we hold ourselves to; None where nobody has set one.
        stretch: The ratio that would be excellent.
    """

    name: str
    make: Callable[[int, float], nn.Module]
    module: str | None = None
    words: tuple[str, ...] = ()
    required: float | None = None
    stretch: float | None = None

    @property
    def missing(self) -> str | None:
        """Return the package that would have to be installed; None if nothing is missing."""
        package = (self.module or "torch").split(".")[0]
        return None if importlib.util.find_spec(package) else package

    def load(self) -> None:
        """Import what it needs, so that processes forked from this one have it."""
        importlib.import_module(self.module or "torch")


class Plain(nn.Module):
    """Embedding, pre-norm layers, mean, and a classifier of one hidden layer."""

    def __init__(
        self, length: int, dropout: float, mixer: Callable[[], nn.Module], *, has_ffn: bool = True
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Embedding(length, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.mixers = nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), mixer()) for _ in range(2))
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
        self.head = _head()

    def forward(self, tokens_BL: Tensor) -> Tensor:
        places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        x_BLD = self.dropout(self.tokens(tokens_BL) + self.places(places_L))
        for number, mixer in enumerate(self.mixers):
            x_BLD = x_BLD + self.dropout(mixer(x_BLD))
            if len(self.ffns):
                x_BLD = x_BLD + self.ffns[number](x_BLD)
        logits: Tensor = self.head(x_BLD.mean(1))
        return logits


def _head() -> nn.Module:
    return nn.Sequential(
        nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
    )


class _Heads(nn.Module):
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


def _textbook(attend: Callable[..., Tensor]) -> Callable[[int, float], nn.Module]:
    return lambda length, dropout: Plain(length, dropout, lambda: _Heads(attend))


def _linear(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key = F.elu(query) + 1, F.elu(key) + 1
    summary = torch.einsum("bhlk,bhlv->bhkv", key, value)
    norm = 1 / (torch.einsum("bhlk,bhk->bhl", query, key.sum(2)) + 1e-6)
    return torch.einsum("bhlk,bhkv,bhl->bhlv", query, summary, norm)


def _cosformer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    length = query.shape[2]
    angle = math.pi / 2 * torch.arange(length, device=query.device)[:, None] / length
    query, key = F.relu(query), F.relu(key)
    query = torch.cat((query * angle.cos(), query * angle.sin()), dim=-1)
    key = torch.cat((key * angle.cos(), key * angle.sin()), dim=-1)
    summary = torch.einsum("bhlk,bhlv->bhkv", key, value)
    norm = 1 / torch.einsum("bhlk,bhk->bhl", query, key.sum(2)).clamp(min=1e-6)
    return torch.einsum("bhlk,bhkv,bhl->bhlv", query, summary, norm)


class _FixedPattern(nn.Module):
    """The fixed pattern of the Sparse Transformer as a mask of all pairs."""

    def __init__(self, length: int, stride: int, num_summaries: int) -> None:
        super().__init__()
        place_L = torch.arange(length)
        same = place_L[:, None] // stride == place_L // stride
        is_summary = place_L % stride >= stride - num_summaries
        self.seen_LL = nn.Buffer(same | is_summary)
        self.heads = _Heads(
            lambda *qkv: F.scaled_dot_product_attention(*qkv, attn_mask=self.seen_LL)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        mixed: Tensor = self.heads(x_BLD)
        return mixed


class _FactorizedRandom(nn.Module):
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


class _S4D(nn.Module):
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


class _Luna(nn.Module):
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
        self.head = _head()

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


class _TorchEncoder(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, HIDDEN, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        states: Tensor = self.layers(x_BLD)
        return states


class _Whole(nn.Module):
    """Embedding, all layers at once, and the classifier."""

    def __init__(self, length: int, dropout: float, layers: nn.Module) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(length, WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.layers = layers
        self.head = _head()

    def forward(self, tokens_BL: Tensor) -> Tensor:
        places_L = torch.arange(tokens_BL.shape[1], device=tokens_BL.device)
        x_BLD = self.dropout(self.tokens(tokens_BL) + self.places(places_L))
        logits: Tensor = self.head(self.layers(x_BLD).mean(1))
        return logits


class _Transformers(nn.Module):
    """A model of the transformers package, and the classifier."""

    def __init__(self, body: nn.Module, width: int, **arguments: Any) -> None:
        super().__init__()
        self.body = body
        self.arguments = arguments
        self.head = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
        )

    def forward(self, tokens_BL: Tensor) -> Tensor:
        given = {name: make(tokens_BL) for name, make in self.arguments.items()}
        logits: Tensor = self.head(self.body(tokens_BL, **given).last_hidden_state.mean(1))
        return logits


def _modeling(family: str) -> str:
    return f"transformers.models.{family}.modeling_{family}"


def _transformers(name: str, **options: Any) -> Callable[[int, float], nn.Module]:
    """Make a model of the transformers package from random weights, without attention dropout."""

    def make(length: int, dropout: float) -> nn.Module:
        library: Any = importlib.import_module("transformers")
        sizes = {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "intermediate_size": HIDDEN,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": 0.0,
            # Longformer counts positions from the padding token's.
            "max_position_embeddings": length + 2,
            "pad_token_id": 0,
        }
        given = {
            key: value(length, dropout) if callable(value) else value
            for key, value in options.items()
        }
        config = getattr(library, f"{name}Config")(**sizes | given)
        # Parts with an output of their own, which is not asked for, would have no gradient.
        pooler = {} if name in ("Nystromformer", "Reformer", "Mamba") else {"add_pooling_layer": False}
        body = getattr(library, f"{name}Model")(config, **pooler)
        arguments: dict[str, Any] = {}
        if name == "Longformer":
            arguments["global_attention_mask"] = lambda tokens: F.one_hot(
                torch.zeros(len(tokens), dtype=torch.int64), tokens.shape[1]
            )
        width = 2 * WIDTH if name == "Reformer" else WIDTH
        return _Transformers(body, width, **arguments)

    return make


def _package(
    module: str, make: Callable[[Any, int], nn.Module], *, has_ffn: bool = True
) -> Callable[[int, float], nn.Module]:
    """Put a mixer of a package into the plain trunk."""

    def made(length: int, dropout: float) -> nn.Module:
        library = importlib.import_module(module)
        return Plain(length, dropout, lambda: make(library, length), has_ffn=has_ffn)

    return made


class _S5Layer(nn.Module):
    """The state space of s5-pytorch between GELU, dropout and gate, as in the release."""

    def __init__(self, library: Any) -> None:
        super().__init__()
        self.ssm = library.S5(WIDTH, state_width=64, block_count=4, bidir=True)
        self.gate = nn.Linear(WIDTH, WIDTH)

    def forward(self, x_BLD: Tensor) -> Tensor:
        mixed = F.gelu(self.ssm(x_BLD))
        gated: Tensor = mixed * self.gate(mixed).sigmoid()
        return gated


def _mamba_block(library: Any, length: int) -> nn.Module:
    config = library.MambaConfig(d_model=WIDTH, n_layers=1, d_state=16, expand_factor=2, d_conv=4)
    block: nn.Module = library.MambaBlock(config)
    return block


def _local_block(library: Any, length: int) -> nn.Module:
    # Its default sees both neighbors and turns queries and keys; ours sees the own block alone.
    return _Heads(
        library.LocalAttention(
            50, look_backward=0, look_forward=0, autopad=True, use_rotary_pos_emb=False
        )
    )


_DENSE = "plain SDPA Transformer"
_dense = _textbook(F.scaled_dot_product_attention)
_ONE_WAY = ("model.mixer.bidirectional=false",)
_BIGBIRD = _transformers(
    "BigBird", attention_type="block_sparse", block_size=64, num_random_blocks=3
)
_NYSTROM = _transformers(
    "Nystromformer",
    num_landmarks=64,
    conv_kernel_size=35,
    segment_means_seq_len=lambda length, _: length,
)
_REFORMER = _transformers(
    "Reformer",
    attn_layers=["lsh"] * LAYERS,
    attention_head_size=WIDTH // HEADS,
    axial_pos_shape=lambda length, _: [32, length // 32],
    axial_pos_embds_dim=[WIDTH // 2, WIDTH // 2],
    feed_forward_size=HIDDEN,
    num_hashes=2,
    lsh_attn_chunk_length=64,
    lsh_attention_probs_dropout_prob=0.0,
    max_position_embeddings=lambda length, _: length,
)

PEERS: dict[str, tuple[Peer, ...]] = {
    "transformer": (
        Peer(_DENSE, _dense, required=1.1, stretch=0.9),
        Peer(
            "nn.TransformerEncoder, which drops weights too",
            lambda length, dropout: _Whole(length, dropout, _TorchEncoder(dropout)),
        ),
    ),
    "ernie_sparse": (
        Peer(_DENSE, _dense, required=0.28, stretch=0.18),
        Peer("transformers BigBird", _BIGBIRD, _modeling("big_bird"), (), 0.27, 0.17),
        Peer("transformers Nystromformer", _NYSTROM, _modeling("nystromformer"), (), 0.7, 0.45),
    ),
    "bigbird": (Peer("transformers BigBird", _BIGBIRD, _modeling("big_bird"), (), 0.4, 0.25),),
    "longformer": (
        Peer(
            "transformers Longformer",
            _transformers("Longformer", attention_window=512),
            _modeling("longformer"),
            (),
            0.3,
            0.2,
        ),
    ),
    "nystromformer": (
        Peer("transformers Nystromformer", _NYSTROM, _modeling("nystromformer"), (), 0.8, 0.6),
        Peer(
            "nystrom-attention",
            _package(
                "nystrom_attention",
                lambda library, _: library.NystromAttention(
                    WIDTH, WIDTH // HEADS, HEADS, num_landmarks=64, residual_conv_kernel=35
                ),
            ),
            "nystrom_attention",
            (),
            0.8,
            0.6,
        ),
    ),
    "fnet": (Peer("transformers FNet", _transformers("FNet"), _modeling("fnet"), (), 1.1, 0.8),),
    "linear_transformer": (
        Peer("textbook", _textbook(_linear), required=0.9, stretch=0.8),
    ),
    "linformer": (
        Peer(
            "linformer, rank 256 in both",
            _package(
                "linformer",
                lambda library, length: library.LinformerSelfAttention(
                    WIDTH, length, k=256, heads=HEADS
                ),
            ),
            "linformer",
            ("model.mixer.rank=256", "model.mixer.sharing=headwise"),
            0.8,
            0.6,
        ),
    ),
    "performer": (
        Peer(
            "performer-pytorch",
            _package(
                "performer_pytorch",
                lambda library, _: library.SelfAttention(
                    WIDTH, heads=HEADS, dim_head=WIDTH // HEADS, nb_features=256
                ),
            ),
            "performer_pytorch",
            (),
            0.6,
            0.45,
        ),
    ),
    "s4d": (
        Peer(
            "textbook",
            lambda length, dropout: Plain(length, dropout, lambda: _S4D(dropout), has_ffn=False),
            required=0.8,
            stretch=0.6,
        ),
    ),
    "s5": (
        Peer(
            "s5-pytorch",
            _package("s5", lambda library, _: _S5Layer(library), has_ffn=False),
            "s5",
        ),
    ),
    "mamba": (
        Peer(
            "mambapy, one direction in both",
            _package("mambapy.mamba", _mamba_block, has_ffn=False),
            "mambapy.mamba",
            _ONE_WAY,
        ),
    ),
    "local": (Peer("local-attention", _package("local_attention", _local_block), "local_attention"),),
    "reformer": (
        Peer("transformers Reformer", _REFORMER, _modeling("reformer")),
        Peer(
            "reformer-pytorch",
            _package(
                "reformer_pytorch",
                lambda library, _: library.LSHSelfAttention(
                    WIDTH, heads=HEADS, bucket_size=64, n_hashes=2
                ),
            ),
            "reformer_pytorch",
        ),
    ),
    "sinkhorn": (
        Peer(
            "sinkhorn-transformer, blocks of 64 in both",
            _package(
                "sinkhorn_transformer.sinkhorn_transformer",
                lambda library, length: library.SinkhornSelfAttention(
                    WIDTH, 64, length, heads=HEADS, sinkhorn_iter=7
                ),
            ),
            "sinkhorn_transformer.sinkhorn_transformer",
            ("model.mixer.block_size=64",),
        ),
    ),
    "cosformer": (Peer("textbook", _textbook(_cosformer)),),
    "luna": (Peer("textbook, nn.MultiheadAttention", _Luna),),
    "sparse": (
        Peer(
            "textbook, a mask of all pairs",
            lambda length, dropout: Plain(length, dropout, lambda: _FixedPattern(length, 50, 10)),
        ),
    ),
    "synthesizer": (
        Peer(
            "textbook",
            lambda length, dropout: Plain(length, dropout, lambda: _FactorizedRandom(length, 8)),
        ),
    ),
    "skyformer": (Peer(_DENSE, _dense),),
    "h_transformer_1d": (Peer(_DENSE, _dense),),
}
