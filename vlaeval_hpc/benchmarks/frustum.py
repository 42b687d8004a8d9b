"""What a MuJoCo camera cannot see, so that it need not be drawn: OpenGL in software pays for every vertex of it."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator

import numpy as np

_HIDDEN = 5  # a geom group that MuJoCo does not draw by default
_MARGIN = 1e-3  # metres; far above what single precision loses
_PLANE, _HEIGHT_FIELD, _BOX = 0, 1, 6  # mjtGeom
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)


@contextlib.contextmanager
def only_what_is_seen(model: Any, data: Any, shown: Any, camera: int, aspect: float) -> Iterator[None]:
    """Meanwhile, geoms that leave no pixel in a fixed camera's frame are in a group that is not drawn.

    `model`, `data`: mujoco's, kinematics up to date; `shown`: MjvOption.geomgroup; `aspect`: width by height. The frame
    is what it was, bit for bit: kept is whatever's box touches the frustum, or a mirror's image of it. All is kept
    where shadows are cast.
    """
    if camera < 0 or shown[_HIDDEN] or model.light_castshadow.any() or model.cam_sensorsize.any():
        yield
        return
    groups = model.geom_group.copy()
    model.geom_group[~seen(model, data, camera, aspect)] = _HIDDEN
    try:
        yield
    finally:
        model.geom_group[:] = groups


def seen(model: Any, data: Any, camera: int, aspect: float) -> "np.ndarray[Any, Any]":
    """(geoms,) bool: whose box lies in the camera's frustum, as it is or as a mirror in there shows it."""
    turned = data.geom_xmat.reshape(-1, 3, 3)
    halves = model.geom_aabb[:, 3:]
    centres = data.geom_xpos + np.einsum("gij,gj->gi", turned, model.geom_aabb[:, :3])
    eye = data.cam_xpos[camera]
    axes = data.cam_xmat[camera].reshape(3, 3)  # columns: right, up, backwards
    up = np.tan(np.radians(model.cam_fovy[camera]) / 2)
    view = np.array([-up * aspect, up * aspect, -up, up])

    def touched(eye: Any, normals: Any) -> Any:
        distances = (centres - eye) @ normals.T
        reach = np.einsum("gj,gjp->gp", halves, np.abs(np.einsum("gij,pi->gjp", turned, normals)))
        return ~(distances > reach + _MARGIN).any(axis=1)

    endless = (model.geom_type == _PLANE) | (model.geom_type == _HEIGHT_FIELD)
    found = touched(eye, _sides(view) @ axes.T) | endless
    # MuJoCo draws the scene once more for every plane or box that reflects, as its upper side shows it.
    for geom in np.flatnonzero(found & _reflective(model)):
        part, height = view, 0.0
        if model.geom_type[geom] == _BOX:
            height = halves[geom][2]
            corners = centres[geom] + (_CORNERS * halves[geom]) @ turned[geom].T
            x, y, backwards = ((corners - eye) @ axes).T
            if (backwards < -_MARGIN).all():  # else a part of it is beside the eye
                x, y = x / -backwards, y / -backwards
                part = np.array([x.min(), x.max(), y.min(), y.max()])
        normal = turned[geom][:, 2]
        flip = np.eye(3) - 2 * np.outer(normal, normal)
        image = flip @ (eye - centres[geom]) + centres[geom] + 2 * height * normal
        found |= touched(image, _sides(part) @ axes.T @ flip)
    return np.asarray(found)


def _sides(bounds: Any) -> Any:
    """Outward unit normals (5, 3), in the camera's axes, of a frustum: left, right, lower and upper side, by their
    tangents, and what is behind the eye."""
    left, right, lower, upper = bounds
    normals = np.array([[-1, 0, -left], [1, 0, right], [0, -1, -lower], [0, 1, upper], [0, 0, 1]], dtype=float)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _reflective(model: Any) -> Any:
    material = model.geom_matid
    shiny = (material >= 0) & (model.mat_reflectance[material] > 0) if model.nmat else np.zeros(len(material), bool)
    return shiny & ((model.geom_type == _PLANE) | (model.geom_type == _BOX))
