"""What the process has imported from which the others are forked."""

import conftest  # noqa: F401  # Settles how threads wait, before torch.
import hydra  # noqa: F401
import torch
import torch._dynamo  # The first optimizer imports it.
import torch.distributed

import lra_bench.attempt
import lra_bench.checkpoint
import lra_bench.cli
import lra_bench.compose
import lra_bench.data
import lra_bench.distributed
import lra_bench.heads
import lra_bench.models.ernie_sparse
import lra_bench.objective
import lra_bench.optim
import lra_bench.runner
import lra_bench.trainer

# A pool of threads does not survive a fork.
torch.set_num_threads(1)
# What parsing and composing build once.
lra_bench.compose.compose(["task=listops", "model=ernie_sparse", "setting=smoke"])
