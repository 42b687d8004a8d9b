"""OpenVLA's processor: one text and one picture in, tensors out."""

import numpy as np
import torch
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import ImageProcessingMixin


class TinyImageProcessor(ImageProcessingMixin):
    model_input_names = ("pixel_values",)

    def __call__(self, images, return_tensors=None, **kwargs):
        assert images.size == (224, 224), "OpenVLA's are resized before"
        pixels = torch.from_numpy(np.array(images.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        return BatchFeature(data={"pixel_values": pixels.numpy()}, tensor_type=return_tensors)


class TinyProcessor(ProcessorMixin):
    attributes = ("image_processor", "tokenizer")
    image_processor_class = "AutoImageProcessor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor=None, tokenizer=None):
        super().__init__(image_processor, tokenizer)

    def __call__(self, text, images, return_tensors="pt"):
        pixels = self.image_processor(images, return_tensors=return_tensors)["pixel_values"]
        return BatchFeature(data={**self.tokenizer(text, return_tensors=return_tensors), "pixel_values": pixels})
