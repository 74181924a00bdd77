"""What each model is measured against: packages that others have published, or the paper's text.

A peer is a whole classifier of the same sizes as ours. A package that has only the part that mixes
positions stands in `textbook.Plain`, the trunk that a tutorial would write. Where no package can be
installed, the peer is a version written from the paper's definition; where that would be as long
as ours, there is only the dense Transformer to compare with.

Shapes: B batch, L length, D width.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from textbook import (
    HEADS,
    HIDDEN,
    LAYERS,
    S4D,
    VOCABULARY,
    WIDTH,
    FactorizedRandom,
    FixedPattern,
    Heads,
    Luna,
    Make,
    Plain,
    TorchEncoder,
    Whole,
    attention,
    cosformer,
    linear,
)
from torch import Tensor, nn


@dataclass(frozen=True)
class Peer:
    """Something to compare with.

    Args:
        name: What it is, and of which version where that is a package.
        make: Makes it for sequences of a length, with a probability of dropout.
        module: What is imported for it; None if nothing but PyTorch.
        words: What ours is asked for beside its defaults, so that both do the same.
        required: The ratio ours / peer at 4,096 tokens that we hold ourselves to; None where
            nobody has set one.
        stretch: The ratio that would be excellent.
    """

    name: str
    make: Make
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


def _transformers(name: str, **options: Any) -> Make:
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
        pooler = (
            {} if name in ("Nystromformer", "Reformer", "Mamba") else {"add_pooling_layer": False}
        )
        body = getattr(library, f"{name}Model")(config, **pooler)
        arguments: dict[str, Any] = {}
        if name == "Longformer":
            arguments["global_attention_mask"] = lambda tokens: F.one_hot(
                torch.zeros(len(tokens), dtype=torch.int64), tokens.shape[1]
            )
        width = 2 * WIDTH if name == "Reformer" else WIDTH
        return _Transformers(body, width, **arguments)

    return make


def _package(module: str, make: Callable[[Any, int], nn.Module], *, has_ffn: bool = True) -> Make:
    """Put a mixer of a package into the plain trunk."""

    def made(length: int, dropout: float) -> nn.Module:
        library = importlib.import_module(module)
        return Plain(length, dropout, lambda: make(library, length), has_ffn=has_ffn)

    return made


class _S5Layer(nn.Module):
    """The state space of s5-pytorch, then GELU and a gate, as in the release.

    It keeps both of each pair of conjugates; so that it computes as many states as ours, it has
    half of them.
    """

    def __init__(self, library: Any) -> None:
        super().__init__()
        self.ssm = library.S5(WIDTH, state_width=32, block_count=4, bidir=True)
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
    return Heads(
        library.LocalAttention(
            50, look_backward=0, look_forward=0, autopad=True, use_rotary_pos_emb=False
        )
    )


_DENSE = "plain SDPA Transformer"
_dense = attention(F.scaled_dot_product_attention)
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
            lambda length, dropout: Whole(length, dropout, TorchEncoder(dropout)),
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
    "linear_transformer": (Peer("textbook", attention(linear), required=0.9, stretch=0.8),),
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
            lambda length, dropout: Plain(length, dropout, lambda: S4D(dropout), has_ffn=False),
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
    "local": (
        Peer("local-attention", _package("local_attention", _local_block), "local_attention"),
    ),
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
    "cosformer": (Peer("textbook", attention(cosformer)),),
    "luna": (Peer("textbook, nn.MultiheadAttention", Luna),),
    "sparse": (
        Peer(
            "textbook, a mask of all pairs",
            lambda length, dropout: Plain(length, dropout, lambda: FixedPattern(length, 50, 10)),
        ),
    ),
    "synthesizer": (
        Peer(
            "textbook",
            lambda length, dropout: Plain(length, dropout, lambda: FactorizedRandom(length, 8)),
        ),
    ),
    "skyformer": (Peer(_DENSE, _dense),),
    "h_transformer_1d": (Peer(_DENSE, _dense),),
}
