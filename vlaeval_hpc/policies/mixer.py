"""The flow policy of real-time chunking's Kinetix experiments: an MLP mixer over an action chunk, in JAX.

Weights as https://github.com/Physical-Intelligence/real-time-chunking-kinetix saves them; sampling as in "Real-Time
Execution of Action Chunking Flow Policies" (arXiv:2506.07339).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError, unknown
from vlaeval_hpc.policies.pickles import read_arrays

Array = NDArray[np.floating[Any]]
SCHEDULES = ("exp", "linear", "ones", "zeros")
_SHORTEST, _LONGEST = 4e-3, 4.0  # periods of the embedding of time
_EPSILON = 1e-6


def prefix_weights(delay: int, end: int, length: int, schedule: str) -> Array:
    """How much each action of a new chunk is held to the one before (eq. 5), (length,) float32.

    1 for the `delay` actions that are carried out before the chunk is there, 0 from `end` on, where the one before has
    no more; between them falling by `schedule`: exp (the paper's), linear, ones, or zeros (hard masking).
    """
    if schedule not in SCHEDULES:
        raise unknown("model.params.schedule", schedule, SCHEDULES)
    at = np.arange(length)
    delay = min(delay, end)
    fall = np.clip((end - at) / (end - delay + 1), 0.0, 1.0)
    soft = {
        "exp": fall * np.expm1(fall) / np.expm1(1.0),
        "linear": fall,
        "ones": np.ones(length),
        "zeros": np.zeros(length),
    }[schedule]
    return np.where(at < delay, 1.0, np.where(at < end, soft, 0.0)).astype(np.float32)


@dataclass(frozen=True)
class FlowMixer:
    """Weights of one policy: `in_proj`, `mlp_stack`, `time_mlp`, `final_adaln`, `out_proj`, float32."""

    weights: Mapping[str, Any]

    @classmethod
    def load(cls, path: Path) -> FlowMixer:
        """Read a policy's .pkl; nothing in it is run. Raises ConfigurationError for any other file."""
        found = read_arrays(path)
        try:
            stack = found["mlp_stack"]
            loaded = cls(
                {
                    **{name: _linear(found[name]) for name in ("in_proj", "final_adaln", "out_proj")},
                    "time_mlp": [_linear(_at(found["time_mlp"]["layers"], i)) for i in (0, 2)],
                    "mlp_stack": [_block(_at(stack, i)) for i in range(len(stack))],
                }
            )
            if loaded.observation_dim < 1 or not loaded.weights["mlp_stack"]:
                raise ValueError("no layers")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise ConfigurationError(f"{path}: no flow policy for Kinetix: {type(error).__name__}: {error}") from error
        return loaded

    @property
    def action_dim(self) -> int:
        """Length of an action."""
        return int(self.weights["out_proj"]["kernel"].shape[1])

    @property
    def observation_dim(self) -> int:
        """Length of an observation."""
        return int(self.weights["in_proj"]["kernel"].shape[0]) - self.action_dim

    @property
    def chunk(self) -> int:
        """Actions of a chunk."""
        return int(self.weights["mlp_stack"][0]["token_mix_in"]["kernel"].shape[0])

    def sample(
        self, seen: Array, noise: Array, flow_steps: int, before: Array | None, weights: Array | None, most: float
    ) -> Array:
        """A chunk (k, dim) float32 for an observation (n,), from noise (k, dim), by Euler steps of the flow.

        With `before` (k, dim), what the last chunk says of the same moments, and `weights` (k,) for how much it counts,
        each step is guided towards it, by `most` at most (eq. 2 to 4); the denoised chunk's gradient is JAX's.
        """
        guided, free = _samplers()
        if before is None or weights is None:
            return np.asarray(free(self.weights, seen, noise, flow_steps))
        return np.asarray(guided(self.weights, seen, noise, flow_steps, before, weights, np.float32(most)))


@cache
def _samplers() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Guided and free; compiled once for policies of one size."""
    import jax

    def free(weights: Any, seen: Any, noise: Any, count: int) -> Any:
        chunk = noise
        for i in range(count):
            chunk = chunk + _velocity(weights, seen, chunk, i / count) / count
        return chunk

    def guided(weights: Any, seen: Any, noise: Any, count: int, before: Any, held: Any, most: Any) -> Any:
        chunk = noise
        for i in range(count):
            chunk = chunk + _guided(weights, seen, chunk, i / count, before, held, most) / count
        return chunk

    return jax.jit(guided, static_argnums=3), jax.jit(free, static_argnums=3)


def _guided(weights: Any, seen: Any, chunk: Any, time: float, before: Any, held: Any, most: Any) -> Any:
    import jax

    def denoised(noisy: Any) -> Any:
        velocity = _velocity(weights, seen, noisy, time)
        return noisy + (1.0 - time) * velocity, velocity

    clean, pull, velocity = jax.vjp(denoised, chunk, has_aux=True)
    (correction,) = pull((before - clean) * held[:, None])
    # (1 - t) / (t r^2) with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2), endless at the beginning.
    strength = most if time == 0 else jax.numpy.minimum((time**2 + (1 - time) ** 2) / (time * (1 - time)), most)
    return velocity + strength * correction


def _velocity(weights: Any, seen: Any, chunk: Any, time: float) -> Any:
    """The flow at a chunk (k, dim) and a time in [0, 1]."""
    from jax import numpy as jnp
    from jax.nn import gelu, silu

    width = weights["in_proj"]["kernel"].shape[1]
    period = _SHORTEST * (_LONGEST / _SHORTEST) ** np.linspace(0.0, 1.0, width // 2)
    phase = (2.0 * np.pi * time / period).astype(np.float32)
    when = jnp.asarray(np.concatenate([np.sin(phase), np.cos(phase)]))
    for layer in weights["time_mlp"]:
        when = silu(_apply(layer, when))
    x = _apply(weights["in_proj"], jnp.concatenate([chunk, jnp.broadcast_to(seen, (len(chunk), len(seen)))], axis=1))
    for block in weights["mlp_stack"]:
        scale, shift, gate = jnp.split(_apply(block["adaln_1"], when), 3)
        tokens = (_normal(x) * (1 + scale) + shift).T
        x = x + gate * _apply(block["token_mix_out"], gelu(_apply(block["token_mix_in"], tokens))).T
        scale, shift, gate = jnp.split(_apply(block["adaln_2"], when), 3)
        channels = _normal(x) * (1 + scale) + shift
        x = x + gate * _apply(block["channel_mix_out"], gelu(_apply(block["channel_mix_in"], channels)))
    scale, shift = jnp.split(_apply(weights["final_adaln"], when), 2)
    return _apply(weights["out_proj"], _normal(x) * (1 + scale) + shift)


def _apply(layer: Any, x: Any) -> Any:
    made = x @ layer["kernel"]
    return made + layer["bias"] if "bias" in layer else made


def _normal(x: Any) -> Any:
    from jax import numpy as jnp

    mean = x.mean(axis=-1, keepdims=True)
    # As Flax has it: the mean of squares less the square of the mean.
    variance = jnp.maximum((x * x).mean(axis=-1, keepdims=True) - mean * mean, 0.0)
    return (x - mean) / jnp.sqrt(variance + _EPSILON)


def _linear(layer: Any, bias: bool = True) -> dict[str, Array]:
    names = {"kernel": 2, "bias": 1} if bias else {"kernel": 2}
    found = {}
    for name, axes in names.items():
        array = np.asarray(layer[name])
        if array.ndim != axes or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{name} is {array.dtype} {array.shape}")
        found[name] = array.astype(np.float32)
    return found


def _block(layers: Any) -> dict[str, Any]:
    mixing = ("token_mix_in", "token_mix_out", "channel_mix_in", "channel_mix_out")
    found = {name: _linear(layers[name], bias=False) for name in mixing}
    return {**found, **{name: _linear(layers[name]) for name in ("adaln_1", "adaln_2")}}


def _at(layers: Any, index: int) -> Any:
    """A layer of a list, which Flax saves as a map from numbers."""
    return layers[index if index in layers else str(index)] if isinstance(layers, Mapping) else layers[index]
