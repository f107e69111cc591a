"""Secrets of the hypervisor are not in images of a guest, not even where host memory is the guest's."""

import io

from quire.guest.boot.bare import BareGuest, bare_config
from quire.memory import HostMemory, Pool
from quire.memory.secure import Initial, SecurePool
from quire.state.images.save import save_image

SECRET = b"the crew may not read this page."


def test_an_image_has_no_secure_frame() -> None:
    guest = BareGuest(b"\xf4", bare_config(memory=16 << 20, mmu="native"))
    host = guest.machine.host
    memory, pool = host.memory, host.pool
    assert isinstance(memory, HostMemory) and isinstance(pool, Pool)
    guest.write(0x20000, b"this one is the guest's")
    with SecurePool(memory, pool) as secure:
        region = secure.secure_alloc(2, fill=Initial.ZERO, lock="no")
        with region.open(write=True) as view:
            view[: len(SECRET)] = SECRET
            image = io.BytesIO()
            save_image(guest.vcpu, image)
            assert SECRET not in image.getvalue(), "open"
        image = io.BytesIO()
        save_image(guest.vcpu, image)  # closed: reading it would end the process
        assert SECRET not in image.getvalue()
        assert b"this one is the guest's" in image.getvalue()
