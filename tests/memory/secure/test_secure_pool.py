"""Secure regions: what they contain, who can reach them, what is left of them, what is found out, what is unwound."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import re
import signal
import subprocess
import sys

import pytest
from limits import PATIENCE

from quire.errors import BackendError, MisuseError
from quire.memory import FRAME_SIZE, HostMemory, OutOfFrames, Owner, OwnerKind, Pool
from quire.memory.secure import Initial, Rights, SecurePool, Tampered
from quire.testing import sweep_failures


def says(call, error=MisuseError):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def counting():
    """A source of bytes that never repeat within a page, the same in every run."""
    numbers = itertools.count(1)
    return lambda length: b"".join(next(numbers).to_bytes(8, "big") for _ in range(length // 8))


@pytest.fixture
def host():
    with HostMemory(256 * FRAME_SIZE) as memory:
        yield memory


@pytest.fixture
def pool(host):
    return Pool(0, 256, host)


@pytest.fixture
def secure(host, pool):
    with SecurePool(host, pool, random_source=counting()) as made:
        yield made
    pool.audit()
    assert pool.frames_of(OwnerKind.FREE) == 256


def raw(host, region):
    """What the memory holds, read past the protection."""
    return os.pread(host.fd, region.size, region.hfn * FRAME_SIZE)


def access_of(host, hfn):
    """The permissions that /proc/self/maps shows for a frame."""
    at = host.address + hfn * FRAME_SIZE
    with open("/proc/self/maps") as file:
        for line in file:
            start, end, permissions = re.match(r"(\w+)-(\w+) (....)", line).groups()
            if int(start, 16) <= at < int(end, 16):
                return permissions[:3]
    return None


class TestRegions:
    def test_contents_by_the_source_or_zero(self, host, secure):
        one, zero = secure.secure_alloc(2), secure.secure_alloc(3, fill=Initial.ZERO)
        source = counting()
        source(32)
        assert raw(host, one) == source(2 * FRAME_SIZE)
        assert raw(host, zero) == bytes(3 * FRAME_SIZE)
        with one.open() as view:
            assert bytes(view) == raw(host, one) and view.readonly

    def test_guards_and_protection(self, host, pool, secure):
        region = secure.secure_alloc(3)
        frames = range(region.hfn - 1, region.hfn + 4)
        assert [access_of(host, hfn) for hfn in frames] == ["---"] * 5
        assert {pool.owner_of(hfn) for hfn in frames} == {Owner(OwnerKind.SECURE, "secure")}
        assert pool.frames_of(OwnerKind.SECURE) == 5
        with region.open():
            assert [access_of(host, hfn) for hfn in frames] == ["---", "r--", "r--", "r--", "---"]
            with region.open(write=True) as view:
                assert [access_of(host, hfn) for hfn in frames] == ["---", "rw-", "rw-", "rw-", "---"]
                view[:3] = b"abc"
            assert access_of(host, region.hfn) == "r--" and region.is_open
        assert [access_of(host, hfn) for hfn in frames] == ["---"] * 5 and not region.is_open
        secure.free(region)
        assert [access_of(host, hfn) for hfn in frames] == ["rw-"] * 5

    @pytest.mark.parametrize("poison", [True, False])
    def test_nothing_is_left(self, host, poison):
        pool = Pool(0, 256, host, poison)
        with SecurePool(host, pool, random_source=counting()) as secure:
            region = secure.secure_alloc(4)
            assert raw(host, region) != bytes(region.size)
        assert raw(host, region) == (b"\x5a" if poison else b"\0") * region.size
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(host.address + region.hfn * FRAME_SIZE)
            assert set(memory.read(region.size)) == {0x5A if poison else 0}

    @pytest.mark.parametrize("pages", [1, 2, 3, 6, 7, 14, 100])
    def test_every_frame_that_is_too_much_goes_back(self, pool, secure, pages):
        region = secure.secure_alloc(pages, lock="no")
        assert pool.frames_of(OwnerKind.SECURE) == pages + 2
        pool.audit()
        secure.free(region)
        pool.audit()
        assert pool.statistics().free_blocks[8] == 1

    def test_locked(self, secure):
        region = secure.secure_alloc(2)
        assert region.locked and not secure.secure_alloc(1, lock="no").locked

    def test_left_out_of_dumps(self, host, secure):
        region = secure.secure_alloc(1)
        at = f"{host.address + (region.hfn - 1) * FRAME_SIZE:x}-"
        with open("/proc/self/smaps") as file:
            flags = re.search(rf"^0*{at}.*?^VmFlags:(.*?)$", file.read(), re.S | re.M).group(1).split()
        assert "dd" in flags


STRAY = """
from quire.memory import HostMemory, Pool
from quire.memory.secure import SecurePool
host = HostMemory(64 << 12)
region = SecurePool(host, Pool(0, 64, host)).secure_alloc(1, lock="no")
with region.open() as view:
    print(len(view), flush=True)
host.octets[(region.hfn + {frame}) << 12]
print("reached")
"""


@pytest.mark.parametrize("frame", [-1, 0, 1])
def test_a_stray_access_ends_the_process(frame):
    done = subprocess.run(
        [sys.executable, "-c", STRAY.format(frame=frame)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "4096\n")


class TestTampering:
    def test_each_page(self, host, secure):
        for page in range(3):
            region = secure.secure_alloc(3)
            hpa = (region.hfn + page) * FRAME_SIZE + 17
            before = os.pread(host.fd, 1, hpa)
            os.pwrite(host.fd, bytes([before[0] ^ 1]), hpa)
            for call in (lambda region=region: region.open().__enter__(), region.sweep, secure.sweep):
                with pytest.raises(Tampered) as caught:
                    call()
                error = caught.value
                assert (error.hfn, error.region, error.offset) == (
                    region.hfn + page,
                    region.name,
                    page * FRAME_SIZE,
                )
                assert access_of(host, region.hfn) == "---" and not region.is_open
            assert str(error) == (
                f"frame {region.hfn + page:#x}, at offset {page * FRAME_SIZE:#x} of secure region {region.name!r}, "
                "was changed while the region was closed: trust nothing in it, free it, and look for who writes to "
                "host memory"
            )
            assert str(pickle.loads(pickle.dumps(error))) == str(error)
            os.pwrite(host.fd, before, hpa)
            secure.sweep()
            os.pwrite(host.fd, b"\0" * 99, hpa)
            secure.free(region)

    def test_an_old_page_and_a_page_elsewhere(self, host, secure):
        region = secure.secure_alloc(2)
        old = raw(host, region)
        with region.open(write=True) as view:
            view[0] ^= 1
        new = raw(host, region)
        region.sweep()
        os.pwrite(host.fd, old, region.hfn * FRAME_SIZE)
        assert says(region.sweep, Tampered).startswith(f"frame {region.hfn:#x}, at offset 0x0")
        os.pwrite(host.fd, new[FRAME_SIZE:] + new[:FRAME_SIZE], region.hfn * FRAME_SIZE)
        assert says(region.sweep, Tampered).startswith(f"frame {region.hfn:#x}, at offset 0x0")
        os.pwrite(host.fd, new, region.hfn * FRAME_SIZE)
        region.sweep()
        with region.open():
            region.sweep()


class TestRights:
    def test_value(self):
        assert [str(Rights()), str(Rights(write=True)), str(Rights(execute=True))] == ["r--", "rw-", "r-x"]
        for text in ("---", "r--", "rw-", "r-x", "-w-", "--x"):
            assert str(Rights.parse(text)) == text
        assert Rights.parse("r-x") == Rights(execute=True) and hash(Rights()) == hash(Rights.parse("r--"))

    @pytest.mark.parametrize("text", ["rwx", "-wx"])
    def test_never_writable_and_executable(self, text):
        assert says(lambda: Rights.parse(text)) == (
            f"no page may be both writable and executable, as {text} would be: "
            "write it first, then change its rights to 'r-x'"
        )

    @pytest.mark.parametrize("text", ["", "rw", "wr-", "rw-x", "RW-"])
    def test_no_policy(self, text):
        assert says(lambda: Rights.parse(text)) == (
            f"{text!r} is no policy: give 'r', 'w', 'x' or '-' in each place, as in 'rw-'"
        )

    def test_an_open_has_to_be_allowed(self, secure):
        region = secure.secure_alloc(1)
        region.allow(Rights(execute=True))
        assert says(lambda: region.open(write=True).__enter__()) == (
            "secure region 'secure 1' has rights 'r-x' and cannot be opened for writing: change them with allow()"
        )
        with region.open():
            assert says(lambda: region.allow(Rights())) == (
                "cannot change its rights while secure region 'secure 1' is open: leave its with block first"
            )
        region.allow(Rights.parse("--x"))
        assert says(lambda: region.open().__enter__()).startswith("secure region 'secure 1' has rights '--x'")


class TestMisuse:
    def test_requests(self, secure):
        for pages in (0, -1, 0x3FFFF, 1 << 70):
            assert says(lambda pages=pages: secure.secure_alloc(pages)) == (
                f"a secure region cannot have {pages:#x} pages: give 0x1 to 0x3fffe"
            )
        assert says(lambda: secure.secure_alloc(1, lock="maybe")) == (
            "there is no lock='maybe': give 'must', 'try' or 'no'"
        )
        assert says(lambda: secure.secure_alloc(255), OutOfFrames).startswith("no free block of order 9")

    def test_a_short_source(self, host, pool):
        assert says(lambda: SecurePool(host, pool, random_source=lambda length: b"4")) == (
            "the random source returned 0x1 bytes instead of 0x20: pass one like os.urandom"
        )

    def test_frees(self, host, pool, secure):
        region = secure.secure_alloc(1)
        with SecurePool(host, pool, "other") as other:
            assert says(lambda: other.free(region)) == (
                "<SecureRegion of 0x1 pages, rw-, closed> is not of <SecurePool of 0 regions, 0x0 pages>: "
                "free it where it was allocated, once"
            )
        with region.open(write=True):
            assert says(lambda: secure.free(region)) == (
                "cannot free it while secure region 'secure 1' is open: leave its with block first"
            )
            assert says(secure.close) == (
                "cannot close its pool while secure region 'secure 1' is open: leave its with block first"
            )
            assert says(region.sweep) == (
                "secure region 'secure 1' is open for writing: its pages have no tags until that ends; "
                "leave the with block first"
            )
        secure.free(region)
        assert repr(region) == "<SecureRegion of 0x1 pages, rw-, freed>"
        for call in (region.sweep, region.open().__enter__, lambda: region.allow(Rights())):
            assert says(call) == "secure region 'secure 1' is freed: allocate another"

    def test_nothing_shows_or_copies_a_secret(self, secure):
        region = secure.secure_alloc(1)
        shown = {repr(region): region, repr(secure): secure}
        assert list(shown) == [
            "<SecureRegion of 0x1 pages, rw-, closed>",
            "<SecurePool of 1 regions, 0x1 pages>",
        ]
        for text, one in shown.items():
            for call in (pickle.dumps, copy.copy, copy.deepcopy):
                assert says(lambda call=call, one=one: call(one)) == (
                    f"{text} cannot be pickled or copied: seal() keeps a region in a file, encrypted"
                )

    def test_a_slice_that_is_kept_does_not_keep_it_open(self, host, secure):
        region = secure.secure_alloc(1)
        with region.open() as view:
            kept = view[:4]
        assert access_of(host, region.hfn) == "---"
        kept.release()

    def test_the_memory_is_closed(self):
        host = HostMemory(64 * FRAME_SIZE, "gone")
        region = SecurePool(host, Pool(0, 64, host)).secure_alloc(1, lock="no")
        host.close()
        assert says(lambda: region.open().__enter__()) == (
            "host memory 'gone' is closed: use it before close() or make another"
        )


REFUSED = """
import os, resource
from quire.memory import HostMemory, Pool
from quire.memory.secure import SecurePool
host = HostMemory(64 << 12)
pool = Pool(0, 64, host)
secure = SecurePool(host, pool)
for size in (1, 2, 3):  # whoever it is now may load kernels and modules
    secure.free(secure.secure_alloc(size))
pool.audit()
resource.setrlimit(resource.RLIMIT_MEMLOCK, (8192, 8192))
if os.geteuid() == 0:
    os.setuid(65534)
print(secure.secure_alloc(2).locked)
try:
    secure.secure_alloc(3)
except OSError as error:
    print(type(error).__name__, error)
pool.audit()
print(secure.secure_alloc(3, lock="try").locked, len(secure.regions))
"""


def test_the_kernel_refuses_a_lock():
    """In a child without privilege, which is what ignores the limit."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == (
        "True\n"
        "BackendError [Errno 12] cannot lock 0x3000 bytes in memory: Cannot allocate memory; RLIMIT_MEMLOCK is 0x2000 "
        "bytes: raise it with 'ulimit -l', or allocate with lock='try' or lock='no'\n"
        "False 2\n"
    )


def test_every_failure_is_unwound(host, pool):
    pool.owners.register(Owner(OwnerKind.SECURE, "secure"))
    used = []

    def scenario():
        with SecurePool(host, pool, random_source=counting()) as secure:
            region = secure.secure_alloc(5)
            used.append(region.hfn)
            with region.open():
                pass

    def check():
        pool.audit()
        assert pool.statistics().free_blocks[8] == 1
        assert access_of(host, 0) == access_of(host, 255) == "rw-"
        assert set(os.pread(host.fd, 256 * FRAME_SIZE, 0)) <= {0, 0x5A}

    def sites(scenario, skip):
        return [one.site for one in sweep_failures(scenario, check, sites=skip)]

    wanted = {"allocate", "random source", "leave out of dumps", "lock host memory", "tag pages"}
    assert sites(scenario, wanted) == [
        *(
            "random source",
            "allocate",
            "random source",
            "leave out of dumps",
            "lock host memory",
            "tag pages",
        ),
        "leave out of dumps",
    ]

    def allocate_only():
        secure = SecurePool(host, pool, random_source=counting())
        region = secure.secure_alloc(5)
        failed = None
        try:
            with region.open(write=True):
                pass
        except BackendError as error:
            failed = error
        for _ in range(2):  # a refused free changes nothing and may be repeated
            try:
                secure.close()
            except BackendError as error:
                failed = error
        if failed is not None:
            raise failed

    assert sites(allocate_only, {"protect host memory", "tag pages", "unlock host memory"}) == [
        *("tag pages", "protect host memory"),
        *("protect host memory", "protect host memory", "tag pages", "protect host memory"),
        *("protect host memory", "unlock host memory"),
    ]
