"""Names for files that are not safetensors files, and what to do with them."""

_TORCH = (
    "load it with PyTorch and write its tensors as safetensors: "
    'safetensors.torch.save_file(torch.load(path, weights_only=True), "x.safetensors"), for a flat dict of tensors'
)


def recognised(start):
    """Return what a file is that begins with the bytes `start`, and the way on; None where that is not known."""
    if start.startswith(b"PK\x03\x04"):
        if any(mark in start for mark in (b"data.pkl", b".format_version", b"/byteorder", b"constants.pkl")):
            return f"this is a PyTorch pickle: {_TORCH}"
        if b".npy" in start:
            return "this is a NumPy archive: read it with numpy.load and save a dict of its arrays"
        return "this is a zip archive"
    if start.startswith(b"\x80") and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        if b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in start[:40]:  # the number that torch.save begins with
            return f"this is a PyTorch pickle: {_TORCH}"
        return "this is a Python pickle, which may run any code: Ferrox does not read pickles"
    for mark, what in (
        (b"\x93NUMPY", "this is a NumPy array: read it with numpy.load and save the array"),
        (b"\x89HDF\r\n\x1a\n", "this is an HDF5 file: read it with h5py and save a dict of its arrays"),
        (b"GGUF", "this is a GGUF file"),
        (b"\x1f\x8b", "this is a gzip file: unpack it first"),
    ):
        if start.startswith(mark):
            return what
    return None
