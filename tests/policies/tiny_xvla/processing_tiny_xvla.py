"""X-VLA's processor: pictures and an instruction in, tensors out."""

import numpy as np
import torch
from transformers import ProcessorMixin


class TinyXVLAProcessor(ProcessorMixin):
    attributes = ()

    def __call__(self, images=None, language_instruction=None, **kwargs):
        frames = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in images])
        # The corner tells whether a frame was turned.
        frames = frames[:, :, :1, :1].expand(-1, -1, 224, 224)
        return {
            "input_ids": torch.tensor([[len(language_instruction)] * (2 if len(language_instruction) > 5 else 1)]),
            "image_input": frames[None],
            "image_mask": torch.ones(1, len(images), dtype=torch.bool),
        }
