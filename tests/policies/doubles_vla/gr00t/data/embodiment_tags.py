"""The surface of Isaac-GR00T's own module at 226ca9b."""

from enum import Enum


class EmbodimentTag(Enum):
    GR1 = "gr1"
    LIBERO_PANDA = "libero_panda"
