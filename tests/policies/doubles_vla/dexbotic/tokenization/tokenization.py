"""The surface of Dexbotic's own module."""

import torch


def tokenizer_image_token(prompt, tokenizer, image_token_index=-200, return_tensors=None):
    assert callable(tokenizer) and return_tensors == "pt" and prompt.startswith("USER: <image>\nWhat action should")
    assert prompt.endswith("ASSISTANT:  ")
    return torch.tensor([image_token_index, *prompt.encode()])
