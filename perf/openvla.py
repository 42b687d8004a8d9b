"""A policy of OpenVLA's shape and size, with random weights: what it says is noise, what it costs is the real thing.

Two vision towers (DINOv2 ViT-L/14 and SigLIP So400m/14: 256 patches of a 224 frame), a projector, Llama 2 7B in
bfloat16; of each answer one forward over 280 tokens and six over one more each, seven tokens in all (arXiv:2406.09246).
"""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

import numpy as np

from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import RGB, Spec

PATCH, SIDE, WORDS, TOKENS = 14, 224, 24, 7


class Size(NamedTuple):
    """Layers and widths: of the language model, and of the two towers."""

    layers: int
    width: int
    heads: int
    hidden: int
    vocabulary: int
    towers: tuple[tuple[int, int, int], ...]  # layers, width, heads


SIZES = {
    "7b": Size(32, 4096, 32, 11008, 32064, ((24, 1024, 16), (27, 1152, 16))),
    "tiny": Size(2, 64, 4, 128, 320, ((1, 32, 2), (1, 48, 2))),
}


class OpenVLAShaped(Policy):
    """`size`: 7b, tiny. `log` gets a line of JSON a batch: when it began and ended, and how many were in it."""

    action_spec = {"action": Spec("action", 7, "any")}
    observation_spec = {"agentview": RGB}

    def __init__(self, *, checkpoint: str | None, size: str, log: str) -> None:
        super().__init__(checkpoint=checkpoint)
        self._size = SIZES[size]
        self._log_path = log

    def load(self) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(0)
        self._model = make_model(self._size).to(self._device)
        self._log = open(self._log_path, "a", buffering=1)

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Any]:
        torch, began = self._torch, time.time()
        with torch.inference_mode():
            frames = np.stack([o["images"]["agentview"] for o in observations])
            pixels = torch.from_numpy(frames).to(self._device).permute(0, 3, 1, 2).to(precision(torch)) / 255
            tokens = self._model(pixels).float().cpu().numpy()  # waits for the GPU
        self._log.write(json.dumps([began, time.time(), len(observations)]) + "\n")
        return list((tokens / self._size.vocabulary).astype(np.float32)[:, None, :])


def precision(torch: Any) -> Any:
    """bfloat16; without a GPU, where that is slow, float32."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float32


def make_model(size: Size) -> Any:
    """A torch module: frames (n, 3, 224, 224) to the likeliest tokens (n, 7)."""
    import torch
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention, silu

    class Attention(nn.Module):
        def __init__(self, width: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

        def forward(self, x: Any, cache: list[Any] | None) -> Any:
            n, length, width = x.shape
            q, k, v = self.qkv(x).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            if cache is not None:
                if cache:
                    k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
                cache[:] = k, v
            seen = scaled_dot_product_attention(q, k, v, is_causal=cache is not None and length > 1)
            return self.out(seen.transpose(1, 2).reshape(n, length, width))

    class Layer(nn.Module):
        def __init__(self, width: int, heads: int, hidden: int, gated: bool) -> None:
            super().__init__()
            self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention = Attention(width, heads)
            self.gate = nn.Linear(width, hidden, bias=False) if gated else None
            self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)

        def forward(self, x: Any, cache: list[Any] | None = None) -> Any:
            x = x + self.attention(self.before(x), cache)
            y = self.between(x)
            wide = self.up(y)
            return x + self.down(silu(self.gate(y)) * wide if self.gate is not None else silu(wide))

    class Tower(nn.Module):
        def __init__(self, layers: int, width: int, heads: int) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, width, PATCH, PATCH)
            self.layers = nn.ModuleList(Layer(width, heads, 4 * width, gated=False) for _ in range(layers))

        def forward(self, pixels: Any) -> Any:
            x = self.patches(pixels).flatten(2).transpose(1, 2)
            for layer in self.layers:
                x = layer(x)
            return x

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.towers = nn.ModuleList(Tower(*tower) for tower in size.towers)
            seen = sum(width for _, width, _ in size.towers)
            self.projector = nn.Sequential(
                nn.Linear(seen, 4 * seen), nn.GELU(), nn.Linear(4 * seen, size.width), nn.GELU(),
                nn.Linear(size.width, size.width),
            )  # fmt: skip
            self.words = nn.Embedding(size.vocabulary, size.width)
            self.layers = nn.ModuleList(
                Layer(size.width, size.heads, size.hidden, gated=True) for _ in range(size.layers)
            )
            self.norm = nn.LayerNorm(size.width)
            self.head = nn.Linear(size.width, size.vocabulary, bias=False)

        def forward(self, pixels: Any) -> Any:
            seen = self.projector(torch.cat([tower(pixels) for tower in self.towers], 2))
            prompt = torch.arange(WORDS, device=pixels.device).expand(len(pixels), WORDS)
            x = torch.cat([seen, self.words(prompt)], 1)
            caches: list[list[Any]] = [[] for _ in self.layers]
            said = []
            for _ in range(TOKENS):
                for layer, cache in zip(self.layers, caches, strict=True):
                    x = layer(x, cache)
                said.append(self.head(self.norm(x[:, -1:])).argmax(-1))
                x = self.words(said[-1])
            return torch.cat(said, 1)

    before = torch.get_default_dtype()
    torch.set_default_dtype(precision(torch))
    try:
        # Made where they will be: 15 GB of weights are drawn in seconds on a GPU.
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            return Model().eval()
    finally:
        torch.set_default_dtype(before)
