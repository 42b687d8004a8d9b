"""openpi-client's own client on a server: `openpi_asks.py URL KEY`; JSON lines of what it got."""

import json
import sys

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy


def observation(prompt, value):
    return {
        "observation/image": np.full((224, 224, 3), value, np.uint8),
        "observation/wrist_image": np.full((224, 224, 3), 2 * value, np.uint8),
        "observation/state": np.arange(8, dtype=np.float64),
        "prompt": prompt,
    }


def told(policy, *asked):
    actions = policy.infer(observation(*asked))["actions"]
    print(json.dumps([list(actions.shape), str(actions.dtype), actions[-1].tolist()]))


policy = WebsocketClientPolicy(sys.argv[1], api_key=sys.argv[2])
policy.reset()
print(json.dumps(policy.get_server_metadata()))
for asked in (("go", 10), ("go", 20), ("stop", 30)):
    told(policy, *asked)
for wrong in (observation("fail", 1), {"prompt": "go", "observation/state": np.zeros(8)}):
    try:
        policy.infer(wrong)
    except RuntimeError as error:
        print(json.dumps(str(error)))
    policy = WebsocketClientPolicy(sys.argv[1], api_key=sys.argv[2])
told(policy, "go", 10)
