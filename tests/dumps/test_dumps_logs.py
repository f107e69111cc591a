"""Round trips of the other formats: what printers of our own print is read back."""

from hypothesis import given, settings
from hypothesis import strategies as st
from log_printers import ept_misconfiguration, linux_oops, qemu_registers, vmcb, vmcb_values

from quire.dumps import read_dumps

words = st.integers(0, (1 << 64) - 1)


@given(
    words,
    st.sampled_from([0, 1, 2, 3, 4, 7, 0xB, 0x11, 0x15]),
    st.lists(words, min_size=5, max_size=5),
    words,
)
@settings(max_examples=50, deadline=None)
def test_oops(address: int, code: int, walk: list[int], cr3: int) -> None:
    registers = {"EFLAGS": 0x10246, "CR0": 0x80050033, "CR3": cr3, "CR4": 0x6B0}
    (dump,) = read_dumps("\n".join(linux_oops(address, code, walk, registers))).dumps
    names = ("PGD", "P4D", "PUD", "PMD", "PTE")
    expected = dict(zip(names, walk, strict=True)) | registers
    assert dump.given == expected | {"address": address, "error_code": code, "CR2": address}


@given(words, st.lists(words, min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_ept(gpa: int, entries: list[int]) -> None:
    (dump,) = read_dumps("\n".join(ept_misconfiguration(gpa, entries))).dumps
    levels = {f"level {4 - n}": f"{entry:#x}" for n, entry in enumerate(entries)}
    assert dump.facts() == {"gpa": f"{gpa:#x}", **levels}


@given(st.fixed_dictionaries({name: st.integers(0, (1 << bits) - 1) for name, bits in vmcb_values().items()}))
@settings(max_examples=20, deadline=None)
def test_vmcb(fields: dict[str, int]) -> None:
    reading = read_dumps("\n".join(vmcb(fields)))
    (dump,) = reading.dumps
    assert (dump.given, dump.damaged, reading.unread) == (fields, [], [])


NAMES = ("rax", "rsp", "rip", "tr", "gdt", "cr3", "efer")


@given(st.fixed_dictionaries({name: words for name in NAMES}), st.integers(0, (1 << 32) - 1))
@settings(max_examples=50, deadline=None)
def test_registers(values: dict[str, int], narrow: int) -> None:
    registers = values | {"rflags": narrow, "cr0": narrow ^ 1, "cr4": narrow ^ 2}
    reading = read_dumps("\n".join(qemu_registers(registers)))
    (dump,) = reading.dumps
    assert reading.unread == []
    facts = {name: int(value, 16) for name, value in dump.facts().items()}
    for name, field in (("rsp", "guest_rsp"), ("rip", "guest_rip"), ("cr3", "guest_cr3"), ("rax", "rax")):
        assert facts[field] == values[name]
    for name in ("rflags", "cr0", "cr4"):
        assert facts[f"guest_{name}"] == registers[name]
    assert (facts["guest_tr_base"], facts["guest_gdtr_base"]) == (values["tr"], values["gdt"])
    assert (facts["guest_cs_access_rights"], facts["guest_ds_access_rights"]) == (0xA09B, 0x1C000)
