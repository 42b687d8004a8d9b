"""An openpi policy server's side of the protocol, with openpi-client's own codec: `openpi_server.py [PORT]`.

Prints its port. The prompt says what to do: fail, slow, die, text, narrow, else tell in the actions what came.
"""

import sys
import time
import zlib

import numpy as np
from openpi_client import msgpack_numpy
from websockets.sync.server import serve

KEY = "Api-Key the-key"
connections = 0


def infer(seen):
    if seen["prompt"] == "narrow":
        return np.zeros((5, 6))
    front, wrist = seen["observation/image"], seen["observation/wrist_image"]
    assert front.shape == wrist.shape == (224, 224, 3) and front.dtype == np.uint8
    assert set(seen) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    told = [
        zlib.crc32(front.tobytes()) % 10_000,
        zlib.crc32(wrist.tobytes()) % 10_000,
        *seen["observation/state"][:2],
        len(seen["prompt"]),
        connections,
    ]
    return np.array([[*told, step] for step in range(5)], dtype=np.float64)


def converse(connection):
    global connections
    connections += 1
    key = connection.request.headers.get("Authorization", "")
    connection.send(msgpack_numpy.packb({"robot": "double", "known": key == KEY, "scale": np.float32(0.5)}))
    for frame in connection:
        seen = msgpack_numpy.unpackb(frame)
        if seen["prompt"] == "slow":
            time.sleep(8)
        if seen["prompt"] == "die":
            connection.socket.close()
            return
        if seen["prompt"] == "fail":
            connection.send("Traceback (most recent call last):\n  ...\nKeyError: 'observation/image_2'\n")
            connection.close(1011, "Internal server error. Traceback included in previous frame.")
            return
        if seen["prompt"] == "text":
            connection.send(b"\xc1")
            continue
        connection.send(msgpack_numpy.packb({"actions": infer(seen), "server_timing": {"infer_ms": 1.0}}))


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
with serve(converse, "127.0.0.1", port, compression=None, max_size=None) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
