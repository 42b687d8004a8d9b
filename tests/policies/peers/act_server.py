"""`POST /act` as OpenVLA's deploy.py, OFT's and X-VLA's server answer it, with json_numpy: `act_server.py DIALECT`.

Prints its port. The instruction says what to do: fail, slow, drip, long, cut, deep, 404, narrow; else tell what came.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import json_numpy
import numpy as np

DIALECT = sys.argv[1]


def openvla(told):
    assert set(told) == {"image", "instruction", "unnorm_key"} and told["unnorm_key"] == "libero_spatial"
    assert told["image"].shape == (224, 224, 3) and told["image"].dtype == np.uint8
    return np.array([told["image"].mean(), 0, 0, 0, 0, len(told["instruction"]), 0.1])


def oft(told):
    assert set(told) == {"full_image", "wrist_image", "state", "instruction"}
    assert told["full_image"].shape == told["wrist_image"].shape == (256, 256, 3)
    assert told["state"].shape == (8,) and told["state"].dtype == np.float64
    first = [told["full_image"].mean(), told["wrist_image"].mean(), told["state"].sum(), 0, 0, 0, 0.9]
    return [np.array(first), np.array([0.0, 0, 0, 0, 0, 0, 0.2])]


def xvla(told):
    assert set(told) == {"image0", "image1", "proprio", "language_instruction", "domain_id", "steps"}
    image, wrist = json_numpy.loads(told["image0"]), json_numpy.loads(told["image1"])
    proprio = json_numpy.loads(told["proprio"])
    assert image.shape == (256, 256, 3) and proprio.shape == (20,) and not proprio[10:].any()
    assert wrist[0, 0, 0] == 255 and not wrist[-1, -1].any()  # turned back
    # A quarter turn about z: the columns (0, 1, 0) and (-1, 0, 0), the first not of length one.
    return {"action": np.tile([*proprio[:3], 0, 2, 0, -1, 0.5, 0, 0.9, *[0] * 10], (30, 1)).tolist()}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        told = json_numpy.loads(self.rfile.read(int(self.headers["Content-Length"])))
        word = told["language_instruction" if DIALECT == "xvla" else "instruction"]
        if word == "slow":
            time.sleep(8)
        if self.path != "/act" or word == "404":
            return self.answer(b'{"detail":"Not Found"}', status=404)
        if word == "fail":
            return self.answer(b'{"error":"Request failed"}', 400) if DIALECT == "xvla" else self.answer(b'"error"')
        if word == "drip":
            return self.drip()
        if word == "long":
            return self.answer(b"[" + b"0," * (4 << 20) + b"0]")
        if word == "cut":
            return self.answer(b"[0, 0", length=1000)
        if word == "deep":
            return self.answer(b"[" * 100_000)
        if word == "narrow":
            return self.answer(json_numpy.dumps(np.zeros(6)).encode())
        if word == "pickle":
            return self.answer(json.dumps({"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}).encode())
        return self.answer(json_numpy.dumps(globals()[DIALECT](told)).encode())

    def answer(self, body, status=200, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
