"""Run with LeRobot: what it reads of a dataset; dataset_checks.py FOLDER, JSON on the last line of stdout."""

import json
import sys

import av
import lerobot.datasets.lerobot_dataset as library
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata


def decode(path, timestamps, tolerance, backend=None):
    """In the place of torchvision's reader, which newer ones do not have: the frames at these times, (n, c, h, w)."""
    with av.open(str(path)) as video:
        shown = [(float(f.time), f.to_ndarray(format="rgb24")) for f in video.decode(video=0)]
    nearest = [min(shown, key=lambda pair: abs(pair[0] - t)) for t in timestamps]
    assert all(abs(at - t) < tolerance for (at, _), t in zip(nearest, timestamps, strict=True))
    return torch.stack([torch.from_numpy(frame).permute(2, 0, 1) / 255 for _, frame in nearest])


library.decode_video_frames = decode
meta = LeRobotDatasetMetadata("local/run", root=sys.argv[1])
dataset = LeRobotDataset("local/run", root=sys.argv[1], delta_timestamps={"action": [0.0, 0.1]}, video_backend="pyav")
found = {
    "version": str(meta.info["codebase_version"]),
    "episodes": dataset.num_episodes,
    "frames": dataset.num_frames,
    "fps": dataset.fps,
    "tasks": list(meta.tasks.index),
    "lengths": [int(e["length"]) for e in meta.episodes],
    "features": {key: [f["dtype"], list(f["shape"])] for key, f in meta.features.items()},
    "stats": {key: [float(x) for x in meta.stats[key]["mean"].ravel()] for key in [*meta.camera_keys, "action"]},
    "rows": [],
}
plain = dataset.hf_dataset
for i in range(len(plain)):
    row = plain[i]
    found["rows"].append(
        [int(row["episode_index"]), int(row["frame_index"]), row["action"].tolist(), row["observation.state"].tolist()]
    )
item = dataset[len(dataset) - 1]
found["item"] = {
    "task": item["task"],
    "action": list(item["action"].shape),
    "pixels": {key: [list(item[key].shape), float(item[key].mean())] for key in meta.camera_keys},
}
print(json.dumps(found))
