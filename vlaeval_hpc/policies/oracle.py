"""An expert for LIBERO's pick-and-place, by where the simulator says that things are: a positive control.

LIBERO ships none. It is told what no policy may see, each object's pose.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlaeval_hpc.errors import ConfigurationError
from vlaeval_hpc.policies.base import Observation, Policy, Session
from vlaeval_hpc.wire.specs import LANGUAGE, Spec

Vector = NDArray[np.floating[Any]]

TOLD = re.compile(r"pick up the (?P<thing>.+?) and place it in the (?P<place>.+)", re.IGNORECASE)

# Metres above the table.
ABOVE = 0.12  # over a thing, before the hand goes down
CARRIED = 0.30  # over everything
RELEASED = 0.20  # over a basket's rim
LOWEST = 0.015
CLOSE_STEPS, OPEN_STEPS = 12, 8
PATIENCE = 45  # steps after which the next thing is done, near or not
HELD = 0.004  # between the fingers, at least: they close on nothing at 0.001


class Oracle(Policy):
    """Grasps the thing from above, carries it over the place, lets go; where it slips, again, turned by a right angle.

    For tasks told as "pick up the THING and place it in the PLACE": all of libero_object. Actions (7,), one a look.
    Raises ConfigurationError for other tasks.
    """

    action_spec = {
        "position": Spec("position", 3, "delta_xyz", (-1.0, 1.0)),
        "rotation": Spec("rotation", 3, "axis_angle", (-3.15, 3.15)),
        "gripper": Spec("gripper", 1, "binary_close_positive", (-1.0, 1.0)),
    }
    observation_spec = {
        "state": Spec("state", 8, "eef_pos3_axisangle3_gripper2"),
        "objects": Spec("objects", 0, "name_pos3_quat4"),
        "language": LANGUAGE,
    }

    def predict(self, observations: list[Observation], sessions: list[Session]) -> list[Vector]:
        return [self._one(seen, session.memory) for seen, session in zip(observations, sessions, strict=True)]

    def _one(self, seen: Observation, memory: dict[str, Any]) -> Vector:
        hand, fingers = seen["states"][:3], seen["states"][6] - seen["states"][7]
        thing, place = (_pose(seen, name) for name in _named(seen["task_description"]))
        phase, since, turned = memory.get("at", ("above", 0, 0))
        grasp = np.array([thing[0], thing[1], max(thing[2], LOWEST)])
        over = place[:2] + hand[:2] - thing[:2]  # it may hang askew
        targets = {
            "above": grasp + np.array([0, 0, ABOVE]),
            "down": grasp,
            "close": grasp,
            "lift": np.array([hand[0], hand[1], CARRIED]),
            "carry": np.array([*over, CARRIED]),
            "lower": np.array([*over, RELEASED]),
            "open": np.array([*over, CARRIED]),
        }
        target = targets[phase]
        near = float(np.abs(hand - target).max()) < (0.02 if phase in ("lift", "carry", "lower") else 0.008)
        turn = _turn(seen["states"][3:6], turned * np.pi / 2)
        gripper = 1.0 if phase in ("close", "lift", "carry", "lower") else -1.0
        action = np.zeros(7)
        action[:3] = np.clip((target - hand) * 12, -1, 1)
        action[5] = np.clip(turn * 2, -1, 1) if phase in ("above", "down") else 0.0
        action[6] = gripper
        memory["at"] = _next(phase, since + 1, turned, near and abs(turn) < 0.1, fingers)
        return action


def _next(phase: str, since: int, turned: int, near: bool, fingers: float) -> tuple[str, int, int]:
    """What is done at the next step: (phase, steps in it, right angles turned)."""
    order = ["above", "down", "close", "lift", "carry", "lower", "open"]
    if phase in ("lift", "carry", "lower") and fingers < HELD:
        return "above", 0, turned + 1
    over = {"close": since >= CLOSE_STEPS, "open": since >= OPEN_STEPS}.get(phase, near or since >= PATIENCE)
    if not over:
        return phase, since, turned
    if phase == "open":
        return "above", 0, turned + 1
    return order[order.index(phase) + 1], 0, turned


def _named(told: str) -> tuple[str, str]:
    found = TOLD.fullmatch(told.strip())
    if found is None:
        raise ConfigurationError(f"the oracle knows no '{told}': valid: pick up the THING and place it in the PLACE")
    return found["thing"], found["place"]


def _pose(seen: Observation, name: str) -> Vector:
    key = name.lower().replace(" ", "_") + "_1"
    if key not in seen["objects"]:
        raise ConfigurationError(f"the oracle sees no {key}: there are {', '.join(sorted(seen['objects']))}")
    pose: Vector = seen["objects"][key]
    return pose


def _turn(axis_angle: Vector, wanted: float) -> float:
    """How far to turn about the vertical (rad), at most a quarter, for fingers that close along `wanted` from y."""
    angle = float(np.linalg.norm(axis_angle))
    axis = axis_angle / max(angle, 1e-9)
    along = np.array([0.0, 1.0, 0.0])  # the hand's y, in which its fingers move
    # Rodrigues' formula.
    turned = along * np.cos(angle) + np.cross(axis, along) * np.sin(angle) + axis * (axis @ along) * (1 - np.cos(angle))
    off = wanted + np.pi / 2 - np.arctan2(turned[1], turned[0])
    return float((off + np.pi / 2) % np.pi - np.pi / 2)
