"""A GR00T inference server's side of ZeroMQ: `gr00t_server.py n1.5|n1.6`; prints its port.

The instruction says what to do: fail, slow, pickle, huge, narrow; else tell in the actions what came.
"""

import io
import struct
import sys
import time

import msgpack
import numpy as np
import zmq

FLAT = sys.argv[1] == "n1.5"
KEY = "annotation.human.action.task_description"
NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


def encoded(value):
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": stream.getvalue()}


def decoded(found):
    if "__ndarray_class__" in found:
        return np.load(io.BytesIO(found["as_npy"]), allow_pickle=False)
    return found


def parts(data):
    """Video, state and instruction of a request, one frame each."""
    if FLAT:
        (told,) = data[KEY]
        video = {k.partition(".")[2]: v for k, v in data.items() if k.startswith("video.")}
        state = {k.partition(".")[2]: v for k, v in data.items() if k.startswith("state.")}
    else:
        assert set(data) == {"observation", "options"}
        ((told,),) = data["observation"]["language"][KEY]
        video = {k: v[0] for k, v in data["observation"]["video"].items()}
        state = {k: v[0] for k, v in data["observation"]["state"].items()}
    assert all(v.shape == (1, 256, 256, 3) and v.dtype == np.uint8 for v in video.values()), video
    assert all(v.dtype == np.float32 and v.ndim == 2 for v in state.values()), state
    assert set(video) == {"image", "wrist_image"} and set(state) == set(NAMES)
    return video, state, told


def answer(data):
    video, state, told = parts(data)
    if told == "fail":
        raise KeyError("state.joint")
    if told == "slow":
        time.sleep(8)
    if told == "pickle":
        stream = io.BytesIO()
        np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
        return {"action.x": {"__ndarray_class__": True, "as_npy": stream.getvalue()}}
    if told == "huge":
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117) + b"\n"
        return {
            "action.x": {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header}
        }
    told_first = [video["image"].mean(), video["wrist_image"].mean(), *[state[n][0, 0] for n in NAMES[2:-1]]]
    chunk = {name: np.full(16, told_first[i], np.float32) for i, name in enumerate(NAMES[:-1])}
    chunk["gripper"] = np.array([0.2, 0.8] * 8, np.float32)
    if told == "narrow":
        del chunk["yaw"]
    if FLAT:
        return {f"action.{name}": part for name, part in chunk.items()}
    return [{name: np.asfortranarray(part.reshape(1, 16, 1)) for name, part in chunk.items()}, {}]


socket = zmq.Context().socket(zmq.REP)
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    request = msgpack.unpackb(socket.recv(), object_hook=decoded)
    try:
        if request.get("api_token") != "the-token":
            found = {"error": "Unauthorized: Invalid API token"}
        elif request["endpoint"] == "ping":
            found = {"status": "ok", "message": "Server is running"}
        else:
            assert request["endpoint"] == "get_action"
            found = answer(request["data"])
    except Exception as error:
        found = {"error": str(error)}
    socket.send(msgpack.packb(found, default=encoded))
