"""Run with Flax: makes policies as real-time chunking's train_flow.py saves them, tiny, and says how they answer.

rtc_format.py FOLDER: a .pkl for each level, and answers.npz. The parts' names are the format; Flax's own layers do
the work.
"""

import pickle
import sys

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np

STATE, ACTION, WIDTH, CHUNK, BLOCKS, STEPS = 679, 6, 16, 8, 2, 5


def linear(before, after, rngs, bias=True):
    # Nothing begins at zero, as it would in training: else the blocks would do nothing.
    return nnx.Linear(before, after, use_bias=bias, rngs=rngs, kernel_init=nnx.initializers.normal(0.1),
                      bias_init=nnx.initializers.normal(0.1))  # fmt: skip


class Block(nnx.Module):
    def __init__(self, rngs):
        self.token_mix_in = linear(CHUNK, 12, rngs, False)
        self.token_mix_out = linear(12, CHUNK, rngs, False)
        self.channel_mix_in = linear(WIDTH, 24, rngs, False)
        self.channel_mix_out = linear(24, WIDTH, rngs, False)
        self.norm_1 = nnx.LayerNorm(WIDTH, use_scale=False, use_bias=False, rngs=rngs)
        self.norm_2 = nnx.LayerNorm(WIDTH, use_scale=False, use_bias=False, rngs=rngs)
        self.adaln_1 = linear(WIDTH, 3 * WIDTH, rngs)
        self.adaln_2 = linear(WIDTH, 3 * WIDTH, rngs)

    def mixed(self, x, when):
        for adaln, norm, inner, outer, turned in (
            (self.adaln_1, self.norm_1, self.token_mix_in, self.token_mix_out, True),
            (self.adaln_2, self.norm_2, self.channel_mix_in, self.channel_mix_out, False),
        ):
            a, b, gate = jnp.split(adaln(when)[:, None], 3, axis=-1)
            y = norm(x) * (1 + a) + b
            y = outer(nnx.gelu(inner(y.swapaxes(1, 2)))).swapaxes(1, 2) if turned else outer(nnx.gelu(inner(y)))
            x = x + gate * y
        return x


class Flow(nnx.Module):
    def __init__(self, rngs):
        self.in_proj = linear(ACTION + STATE, WIDTH, rngs)
        self.mlp_stack = [Block(rngs) for _ in range(BLOCKS)]
        self.time_mlp = nnx.Sequential(linear(WIDTH, WIDTH, rngs), nnx.swish, linear(WIDTH, WIDTH, rngs), nnx.swish)
        self.final_norm = nnx.LayerNorm(WIDTH, use_scale=False, use_bias=False, rngs=rngs)
        self.final_adaln = linear(WIDTH, 2 * WIDTH, rngs)
        self.out_proj = linear(WIDTH, ACTION, rngs)

    def velocity(self, seen, chunk, time):
        period = 4e-3 * (4.0 / 4e-3) ** jnp.linspace(0.0, 1.0, WIDTH // 2)
        angle = jnp.full((1, 1), time) * (2 * jnp.pi / period)[None]
        when = self.time_mlp(jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1))
        x = self.in_proj(jnp.concatenate([chunk, jnp.repeat(seen[:, None], CHUNK, axis=1)], axis=-1))
        for block in self.mlp_stack:
            x = block.mixed(x, when)
        a, b = jnp.split(self.final_adaln(when)[:, None], 2, axis=-1)
        return self.out_proj(self.final_norm(x) * (1 + a) + b)


folder = sys.argv[1]
seen = np.random.default_rng(1).normal(size=STATE).astype(np.float32)
noise = np.random.default_rng(2).normal(size=(CHUNK, ACTION)).astype(np.float32)
answers = {"seen": seen, "noise": noise}
for seed, level in enumerate(("grasp_easy", "h4_cartpole")):
    policy = Flow(nnx.Rngs(seed))
    with open(f"{folder}/worlds_l_{level}.pkl", "wb") as file:
        pickle.dump(nnx.state(policy).to_pure_dict(), file)
    chunk = jnp.asarray(noise)[None]
    for i in range(STEPS):
        chunk = chunk + policy.velocity(jnp.asarray(seen)[None], chunk, i / STEPS) / STEPS
    answers[level] = np.asarray(chunk[0])
np.savez(f"{folder}/answers.npz", **answers)
print(jax.__version__)
