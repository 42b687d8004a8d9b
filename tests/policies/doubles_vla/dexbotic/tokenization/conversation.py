"""The surface of Dexbotic's own module."""

import copy


class Conversation:
    roles = ("USER", "ASSISTANT")

    def __init__(self):
        self.messages = []

    def copy(self):
        return copy.deepcopy(self)

    def append_message(self, role, message):
        self.messages.append((role, message))

    def get_prompt(self):
        return "".join(f"{role}: {message}" for role, message in self.messages)


conv_templates = {"dexbotic": Conversation()}
