"""openpi-client's resize_with_pad of the arrays in an .npz, written beside it: `openpi_resize.py IN OUT SIZE`."""

import sys

import numpy as np
from openpi_client.image_tools import resize_with_pad

size = int(sys.argv[3])
np.savez(sys.argv[2], **{name: resize_with_pad(image, size, size) for name, image in np.load(sys.argv[1]).items()})
