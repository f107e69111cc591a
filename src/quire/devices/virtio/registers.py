"""The registers of a virtio device in memory, and the bits of those that have bits (VIRTIO §4.2.2)."""

from enum import IntEnum

from quire.arch.layout import Layout, bit, bits, reserved

__all__ = ["CONFIG", "FEATURES", "INTERRUPT", "MAGIC", "PAGE", "STATUS", "VENDOR", "VERSION", "Register"]

#: What the first registers read: "virt", version 2 of the transport, "QUIR".
MAGIC, VERSION, VENDOR = 0x74726976, 2, 0x52495551
#: Bytes of a device's window; where its own configuration begins.
PAGE, CONFIG = 0x1000, 0x100


class Register(IntEnum):
    """Offsets, in bytes. All are 32 bits wide."""

    MAGIC = 0x000
    VERSION = 0x004
    DEVICE_ID = 0x008
    VENDOR_ID = 0x00C
    DEVICE_FEATURES = 0x010
    DEVICE_FEATURES_SELECT = 0x014
    DRIVER_FEATURES = 0x020
    DRIVER_FEATURES_SELECT = 0x024
    QUEUE_SELECT = 0x030
    QUEUE_SIZE_MAX = 0x034
    QUEUE_SIZE = 0x038
    QUEUE_READY = 0x044
    QUEUE_NOTIFY = 0x050
    INTERRUPT_STATUS = 0x060
    INTERRUPT_ACKNOWLEDGE = 0x064
    STATUS = 0x070
    DESCRIPTORS_LOW = 0x080
    DESCRIPTORS_HIGH = 0x084
    AVAILABLE_LOW = 0x090
    AVAILABLE_HIGH = 0x094
    USED_LOW = 0x0A0
    USED_HIGH = 0x0A4
    SHARED_LENGTH_LOW = 0x0B0
    SHARED_LENGTH_HIGH = 0x0B4
    SHARED_BASE_LOW = 0x0B8
    SHARED_BASE_HIGH = 0x0BC
    CONFIG_GENERATION = 0x0FC


STATUS = Layout(
    "STATUS",
    8,
    "VIRTIO §2.1",
    (
        bit(0, "ACKNOWLEDGE", "the guest has found the device"),
        bit(1, "DRIVER", "it has a driver for it"),
        bit(2, "DRIVER_OK", "the driver is ready"),
        bit(3, "FEATURES_OK", "both agree on features"),
        reserved(4, 5),
        bit(6, "NEEDS_RESET", "the device cannot go on; it says so itself"),
        bit(7, "FAILED", "the driver has given up"),
    ),
)

INTERRUPT = Layout(
    "INTERRUPT",
    32,
    "VIRTIO §4.2.2",
    (
        bit(0, "USED", "buffers were used"),
        bit(1, "CONFIG", "the configuration or the status has changed"),
        reserved(2, 31),
    ),
)

FEATURES = Layout(
    "FEATURES",
    64,
    "VIRTIO §6",
    (
        bits(0, 23, "device", "of the kind of device"),
        reserved(24, 27),
        bit(28, "INDIRECT_DESC", "descriptors may be in tables of their own"),
        reserved(29, 31),
        bit(32, "VERSION_1", "as the standard says, not as before it"),
        reserved(33, 63),
    ),
)
