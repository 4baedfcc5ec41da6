"""Devices and their primary contexts.

A device is known by its number among those that CUDA_VISIBLE_DEVICES shows.  Its primary context, which it shares with
every other library in the process, is retained when it is first used and kept: it goes when the process ends.
"""
from ferrox._core.cuda.abi cimport CUcontext, CUresult
from ferrox._core.cuda.capturing cimport may_wait_for_device, relax, restore
from ferrox._core.cuda.driver cimport check, cu, open_driver, usable
from ferrox._core.cuda.driver import why_not as driver_missing
from ferrox._core.door.device cimport device as device_class

cdef extern from *:
    """
    static __thread int fx_current_device;
    """
    int fx_current_device

cdef enum:
    LOWEST = 80     # compute capability, as 10 * major + minor

cdef int _count = 0
# Numbers of CUdevice_attribute.
cdef dict _attributes = {
    "max_threads_per_block": 1, "shared_memory_per_block": 8, "warp_size": 10, "clock_rate": 13,
    "multi_processor_count": 16, "is_integrated": 18, "pci_bus_id": 33, "pci_device_id": 34, "memory_clock_rate": 36,
    "memory_bus_width": 37, "L2_cache_size": 38, "max_threads_per_multi_processor": 39, "pci_domain_id": 50,
    "major": 75, "minor": 76, "shared_memory_per_multiprocessor": 81, "regs_per_multiprocessor": 82,
    "shared_memory_per_block_optin": 97,
}


cdef int _attribute(int index, int attribute, int *value) except -1:
    cdef CUresult status = cu.cuDeviceGetAttribute(value, attribute, devices[index].handle)
    return check(status, f"reading the attributes of device {index}")


cdef int _read(int index) except -1:
    cdef cuda_device *d = &devices[index]
    check(cu.cuDeviceGet(&d.handle, index), f"opening device {index}")
    _attribute(index, 75, &d.major)
    _attribute(index, 76, &d.minor)
    _attribute(index, 16, &d.multiprocessors)
    _attribute(index, 39, &d.threads_per_multiprocessor)
    return _attribute(index, 97, &d.shared_per_block)


cdef bint _serves(int index) noexcept:
    return 10 * devices[index].major + devices[index].minor >= LOWEST


cdef str _too_low(int index):
    return (f"Device {index} ({properties(index)['name']}) has compute capability {devices[index].major}."
            f"{devices[index].minor}: Ferrox needs {LOWEST // 10}.{LOWEST % 10} or higher.")


cdef int open_devices() except -1:
    global _count
    cdef int index, count = 0
    open_driver()
    if _count == 0:
        check(cu.cuDeviceGetCount(&count), "counting the devices")
        count = min(count, MAX_DEVICES)
        for index in range(count):
            _read(index)
        _count = count
    return _count


def why_not():
    """Why no device can be used, in one sentence; an empty string when one can."""
    cdef int index
    missing = driver_missing()
    if missing:
        return missing
    for index in range(open_devices()):
        if _serves(index):
            return ""
    return _too_low(0)


def device_count():
    """Number of devices; 0 where the driver cannot be used."""
    return 0 if driver_missing() else open_devices()


cdef int current_device() noexcept nogil:
    return fx_current_device


def set_current_device(int index):
    """Make a device the one of this thread."""
    global fx_current_device
    fx_current_device = index


def get_current_device():
    open_devices()
    return fx_current_device


cdef CUresult bind(int device) noexcept nogil:
    cdef CUresult status = usable()
    cdef CUcontext current = NULL
    cdef cuda_device *d = &devices[device]
    if status:
        return status
    if d.context == NULL:
        status = cu.cuDevicePrimaryCtxRetain(&d.context, d.handle)
        if status:
            d.context = NULL
            return status
    # Other libraries may have made theirs current on this thread in the meantime.
    status = cu.cuCtxGetCurrent(&current)
    if status or current == d.context:
        return status
    return cu.cuCtxSetCurrent(d.context)


cdef int device_number(object device, str name) except -1:
    cdef int count = open_devices(), index
    if device is None:
        index = fx_current_device
    elif isinstance(device, int) and not isinstance(device, bool):
        index = device if -1 <= device < MAX_DEVICES else MAX_DEVICES
        if index == -1:
            index = fx_current_device
    else:
        made = device if isinstance(device, device_class) else device_class(device)
        if (<device_class> made).type_code != 1:
            raise ValueError(f"[{name}] expected a CUDA device, got {made}")
        index = (<device_class> made).index_code if (<device_class> made).has_index else fx_current_device
    if not 0 <= index < count:
        raise RuntimeError(f"[{name}] there is no CUDA device {device}: this process sees {count} "
                           f"({'cuda:0' if count == 1 else f'cuda:0 to cuda:{count - 1}'})")
    if not _serves(index):
        raise RuntimeError(f"[{name}] {_too_low(index)}")
    return index


def index_of(device=None, name="cuda"):
    """The number of a device; see `device_number`."""
    return device_number(device, name)


def properties(int index):
    """Name, memory and attributes of a device, as a dict."""
    cdef char name[256]
    cdef unsigned char uuid[16]
    cdef size_t memory = 0
    cdef int value = 0, handle
    if not 0 <= index < open_devices():
        raise RuntimeError(f"[get_device_properties] there is no CUDA device {index}: this process sees {_count}")
    handle = devices[index].handle
    check(cu.cuDeviceGetName(name, sizeof(name), handle), "reading the name of a device")
    check(cu.cuDeviceTotalMem(&memory, handle), "reading the memory of a device")
    check(cu.cuDeviceGetUuid(uuid, handle), "reading the UUID of a device")
    found = {"name": name.decode("utf-8", "replace"), "total_memory": memory, "uuid": (<bytes> uuid[:16]).hex()}
    for key, attribute in _attributes.items():
        check(cu.cuDeviceGetAttribute(&value, attribute, handle), "reading the attributes of a device")
        found[key] = value
    return found


def can_access_peer(int index, int peer):
    """Whether a device can reach another's memory directly."""
    cdef int can = 0
    check(cu.cuDeviceCanAccessPeer(&can, devices[index].handle, devices[peer].handle), "asking for peer access")
    return bool(can)


def synchronize(int index):
    """Wait for all work on a device."""
    cdef CUresult status
    cdef int mode
    with nogil:
        status = bind(index) or may_wait_for_device(index)
        if status == 0:
            mode = relax()
            status = cu.cuCtxSynchronize()
            restore(mode)
    check(status, f"waiting for device {index}")


def memory_info(int index):
    """(free, total) bytes of a device's memory."""
    cdef size_t free = 0, total = 0
    check(bind(index), f"using device {index}")
    check(cu.cuMemGetInfo(&free, &total), "reading the free memory")
    return free, total
