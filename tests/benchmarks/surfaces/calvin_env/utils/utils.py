def get_egl_device_id(cuda_id):
    return cuda_id + 3
