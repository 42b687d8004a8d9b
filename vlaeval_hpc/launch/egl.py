"""What EGL can render on, as JSON: a script of its own, since a driver that is ill may take its process with it."""

from __future__ import annotations

import ctypes
import json

CUDA_DEVICE_NV = 0x323A  # EGL_NV_device_cuda: the device's number in CUDA
MOST = 64


def main() -> None:
    """Print `{"devices": count, "cuda": [CUDA numbers]}`, or `{"error": why}` where EGL or its extension is missing."""
    try:
        print(json.dumps(_devices()))
    except OSError as error:
        print(json.dumps({"error": str(error)}))


def _devices() -> dict[str, object]:
    egl = ctypes.CDLL("libEGL.so.1")
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]

    def function(name: str, *arguments: type) -> ctypes._FuncPointer | None:
        address = egl.eglGetProcAddress(name.encode())
        return ctypes.CFUNCTYPE(ctypes.c_uint, *arguments)(address) if address else None

    many, count = (ctypes.c_void_p * MOST)(), ctypes.c_int()
    query = function("eglQueryDevicesEXT", ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    attribute = function("eglQueryDeviceAttribEXT", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    if query is None or attribute is None:
        return {"error": "libEGL.so.1 has no EGL_EXT_device_enumeration"}
    if not query(MOST, many, ctypes.byref(count)):
        return {"error": "eglQueryDevicesEXT fails"}
    numbers = []
    for device in many[: count.value]:
        number = ctypes.c_ssize_t()
        if attribute(device, CUDA_DEVICE_NV, ctypes.byref(number)):
            numbers.append(number.value)
    return {"devices": count.value, "cuda": sorted(numbers)}


if __name__ == "__main__":
    main()
