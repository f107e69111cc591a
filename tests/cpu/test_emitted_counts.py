"""Counts of the engine's own code are those of hooks; where it cannot be added to, hooks count and it is said."""

import ctypes
import dataclasses
import gc
from collections.abc import Iterator

import pytest
from soft_guest import CODE, DATA, DATA_HPA, Guest
from unicorn.unicorn_py3.unicorn import uclib

from quire.arch import SKYLAKE_X, Replacement, profile_by_name, profile_names
from quire.cpu import Detail
from quire.cpu.soft import counting, proof
from quire.cpu.soft.hooked import HookedCounts
from quire.cpu.soft.tcg import interposition
from quire.cpu.soft.tcg.cells import BLOCKS, CONTEXTS, Cell
from quire.cpu.soft.tcg.emitted import EmittedCounts
from quire.cpu.soft.tcg.emitted_blocks import EmittedBlocks
from quire.cpu.soft.tcg.first_level import first_level
from quire.cpu.soft.tcg.library import ABSOLUTE, Library
from quire.testing.suite import Setting
from quire.testing.suites.counts import SUITES
from quire.testing.tally import Tally
from quire.tlb import Tlb, TlbOptions
from quire.vcpu import Interrupted, Syscall, Trap, TrapKind

_CASES = {case.name: case for case in SUITES[0].cases}
#: One of each policy, split first levels, both page sizes, no TLB, one without bound, two vCPUs.
_SAMPLE = (
    "skylake-x-lru-ept-4k",
    "skylake-x-plru-ept-2m",
    "sapphire-rapids-lru-ept-2m",
    "zen2-lru-ept-4k-2-vcpus",
    "none-lru-ept-2m",
    "ideal-plru-ept-4k-2-vcpus",
)
#: mov rax, [rdi]; add [rdi + 8], rax; dec ecx; jnz; syscall
LOOP = "488b07 48014708 ffc9 75f5 0f05"


def events(guest: Guest) -> dict[str, int]:
    """Return what a guest counted, but for what an engine counts of itself."""
    return {name: count for name, count in guest.cpu.events().items() if name not in ("fills", "aliases")}


@pytest.mark.parametrize("name", _SAMPLE)
def test_random_code_is_counted_as_hooks_count_it(name: str) -> None:
    """Whole: quire check --suite counts --whole."""
    tally = Tally()
    _CASES[name].function(Setting(seed=1), tally)
    assert tally.compared > 30 and not tally.differences, [str(one) for one in tally.differences]


def test_a_program_is_counted_as_hooks_count_it() -> None:
    tally = Tally()
    _CASES["program-shell"].function(Setting(), tally)
    assert tally.compared > 30 and not tally.differences, [str(one) for one in tally.differences]


def test_every_profile_and_policy_is_compared() -> None:
    wanted = {f"{profile}-{policy}" for profile in profile_names() for policy in Replacement}
    assert {
        name.rpartition(policy)[0] + policy
        for name in _CASES
        for policy in Replacement
        if f"-{policy}-" in name
    } == wanted


def test_the_proof_expects_what_hooks_count() -> None:
    found, stop, rip, emitted = proof.counts_of_proof(by_hooks=True)
    assert not emitted and found | proof.EXPECTED == found
    assert isinstance(stop, Trap) and stop.kind is TrapKind.PAGE_FAULT and rip == proof._FAULTS_AT
    assert proof.why_hooks() is None


@pytest.mark.parametrize("name", list(proof.EXPECTED))
def test_a_wrong_count_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(proof.EXPECTED, name, proof.EXPECTED[name] + 1)
    assert proof.why_hooks.__wrapped__() == (
        "a small guest of known counts was counted otherwise. This is a bug in Quire: please report it"
    )


def test_another_library_is_counted_by_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interposition, "library_with_contexts", lambda: None)
    guest = Guest(Detail.FULL, LOOP)
    assert isinstance(guest.cpu.counts, HookedCounts)
    guest.cpu.registers.write("rcx", 9)
    assert guest.cpu.run() == Syscall() and guest.cpu.events()["reads"] == 18
    why = proof.why_hooks.__wrapped__()
    assert why is not None and why.startswith("there is no room near the engine")
    monkeypatch.setattr(proof, "knows_library", lambda: False)
    why = proof.why_hooks.__wrapped__()
    assert why is not None and why.startswith("this build of Unicorn 2.")
    assert why.endswith(" is not one whose code generator Quire knows")


def test_a_library_of_other_code_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interposition, "knows_library", lambda: False)
    assert interposition.library_with_contexts.__wrapped__() is None


@pytest.mark.parametrize("by_hooks", [True, False], ids=["hooks", "emitted"])
def test_several_engines_count_for_themselves(by_hooks: bool) -> None:
    guests = [Guest(Detail.FULL, LOOP, by_hooks=by_hooks and n == 1) for n in range(3)]
    for n, guest in enumerate(guests):
        guest.cpu.registers.write("rcx", 10 * (n + 1))
    for guest in guests:
        assert guest.cpu.run() == Syscall()
    assert [guest.cpu.events()["reads"] for guest in guests] == [20, 40, 60]
    guests[0].cpu.close()
    guests[1].cpu.registers.write_many({"rip": CODE, "rcx": 5})
    assert guests[1].cpu.run() == Syscall()
    assert guests[1].cpu.events()["reads"] == 50


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A table of contexts that is empty. No engine that is gone leaves it: the one in force would keep its place."""
    gc.collect()
    gc.disable()
    made = [0] * (2 * CONTEXTS)
    monkeypatch.setattr(interposition, "_table", lambda: made)
    yield made
    monkeypatch.undo()
    gc.enable()


def test_an_engine_too_many_counts_by_hooks(table: list[int]) -> None:
    assert all(interposition.register(16 * (n + 1), 1) for n in range(CONTEXTS))
    assert not interposition.register(8, 1)
    assert isinstance(Guest(Detail.FULL, LOOP).cpu.counts, HookedCounts)
    interposition.unregister(32, 1)
    assert interposition.register(8, 1) and not interposition.register(24, 1)


def test_places_of_engines_that_are_gone_end_searches(table: list[int]) -> None:
    for env in (0x10, 0x20, 0x30, 0x30 + 16 * CONTEXTS):  # the last two want one place
        assert interposition.register(env, 1)
    for env in (0x20, 0x30):
        interposition.unregister(env, 1)
    assert [one for one in table[0::2] if one] == [0x10, 1, 1, 0x30 + 16 * CONTEXTS]
    interposition.unregister(0x30 + 16 * CONTEXTS, 1)
    assert [one for one in table[0::2] if one] == [0x10]


def test_an_engine_where_another_was_has_its_own_context(table: list[int]) -> None:
    """Emitted code would count in cells that are gone: the process would end by SIGSEGV."""
    for context in (1, 2):
        assert interposition.register(0x10, 5) and interposition.register(0x20, context)
    interposition.unregister(0x20, 1)  # the first is told late that it is gone
    assert table[2:6] == [0x10, 5, 0x20, 2]
    interposition.unregister(0x20, 2)
    assert 0x20 not in table[0::2]


def test_an_engine_may_be_freed_while_another_takes_its_place(table: list[int]) -> None:
    """As the collector does it, in the midst of anything."""
    assert interposition.register(0x10, 1)
    with interposition._registering:
        interposition.unregister(0x10, 1)
        assert 0x10 in table[0::2]
    assert interposition.register(0x20, 2)
    assert 0x10 not in table[0::2] and 0x20 in table[0::2]


def test_there_is_room_near_many_engines() -> None:
    guests = [Guest(Detail.EXITS, LOOP) for _ in range(40)]
    assert all(isinstance(guest.cpu.counts, EmittedBlocks) for guest in guests)


def test_an_engine_that_is_gone_has_no_context() -> None:
    """Another engine may have its memory next, while somebody still looks at what was counted."""
    guest = Guest(Detail.FULL, LOOP)
    counts, env = guest.cpu.counts, guest.cpu._engine.state_address
    assert isinstance(counts, EmittedCounts)
    assert env in list(interposition._table())[0::2]
    guest.cpu.registers.write("rcx", 3)
    assert guest.cpu.run() == Syscall()
    guest.cpu._engine.close()
    del guest.cpu
    gc.collect()
    assert env not in list(interposition._table())[0::2]
    assert counts.events()["reads"] == 6


def test_exits_count_instructions_too() -> None:
    exits, full = (Guest(detail, LOOP) for detail in Detail)
    for guest in (exits, full):
        guest.cpu.registers.write("rcx", 100)
        assert guest.cpu.run() == Syscall()
    assert isinstance(exits.cpu.counts, EmittedBlocks)
    assert exits.cpu.events()["instructions"] == full.cpu.events()["instructions"] == 401


def test_instructions_behind_a_fault_are_not_counted_in_exits_either() -> None:
    guest = Guest(Detail.EXITS, "48ffc0 48ffc0 488b042500000000 48ffc0 0f05")  # the third loads from 0
    assert isinstance(guest.cpu.run(), Trap)
    assert guest.cpu.events()["instructions"] == 2


def test_room_for_more_blocks_loses_no_count() -> None:
    guest = Guest(Detail.FULL, LOOP)
    counts = guest.cpu.counts
    assert isinstance(counts, EmittedCounts)
    guest.cpu.registers.write("rcx", 7)
    assert guest.cpu.run() == Syscall()
    before = events(guest)
    counts._cells[int(Cell.NEXT)] = BLOCKS * 3 // 4 + 1
    assert counts.wants_room
    guest.cpu.registers.write_many({"rip": CODE, "rcx": 7})
    assert guest.cpu.run() == Syscall()
    assert not counts.wants_room
    after = events(guest)
    for name in ("reads", "writes", "instructions", "blocks"):
        assert after[name] == 2 * before[name]


@pytest.mark.parametrize("detail", Detail)
def test_sums_of_blocks_in_slices_are_those_of_counts(detail: Detail) -> None:
    """From the first slice on blocks sum instructions up themselves, as far as the last one ran."""
    guest = Guest(detail, LOOP + "48ffc0 488b042500000000 0f05")  # behind the first call: a load from 0
    cpu = guest.cpu
    cpu.registers.write("rcx", 50)
    assert cpu.run() == Syscall() and cpu.instructions() == 201
    cpu.registers.write_many({"rip": CODE, "rcx": 50})
    stops = []
    while not stops or stops[-1] == Interrupted():
        cpu.begin_slice(7)
        stops.append(cpu.run())
        assert cpu.instructions() == cpu.events()["instructions"]
    assert len(stops) > 7 and stops[-1] == Syscall() and cpu.instructions() == 402
    assert isinstance(cpu.run(), Trap)
    assert cpu.instructions() == cpu.events()["instructions"] == 403


def test_a_slot_that_two_pages_share_keeps_their_order() -> None:
    """Pages 16 MiB apart have their stamps in one place; each use of one frees it of the other."""
    code = "488b07 488b06 ffc9 75f6 0f05"
    pair = [Guest(Detail.FULL, code, by_hooks=by_hooks) for by_hooks in (True, False)]
    for guest in pair:
        guest.tables.map(DATA + (1 << 24), DATA_HPA + 0x3000, 4096, guest.tables.lookup(DATA).rights)
        guest.cpu.registers.write_many({"rcx": 20, "rsi": DATA + (1 << 24)})
        assert guest.cpu.run() == Syscall()
    slow, fast = (events(guest) for guest in pair)
    assert fast == slow and fast["reads"] == 40


def test_ages_are_those_of_every_access() -> None:
    """The model's stamps are brought up to date before anybody reads them."""
    ages = []
    for by_hooks in (True, False):
        # in one block of one page, for hooks look up a new block's page once more
        guest = Guest(Detail.FULL, "488b06 488b07 488b06 ffc9 75f3 0f05", by_hooks=by_hooks)
        guest.cpu.registers.write_many({"rcx": 30, "rsi": DATA + 4096})
        assert guest.cpu.run() == Syscall()
        used = {
            entry.address: entry.stamp for entry in guest.tlb.valid() if entry.structure.startswith("L1D")
        }
        ages.append(used[DATA + 4096] - used[DATA])
    assert ages == [1, 1]


def test_first_levels() -> None:
    unified = first_level(Tlb(SKYLAKE_X))
    assert not unified.split and not unified.unbounded
    split = first_level(Tlb(profile_by_name("sapphire-rapids")))
    assert split.split and (split.pairs[0] != split.pairs[1]).any()
    assert first_level(Tlb(profile_by_name("ideal"))).unbounded
    bare = first_level(Tlb(dataclasses.replace(SKYLAKE_X, tlbs=()), TlbOptions()))
    assert (bare.pairs == bare.pairs[2, -1]).all()


def test_the_librarys_words_are_found() -> None:
    library = Library(uclib)
    called = library.slots("tcg_gen_callN_x86_64")
    # What stands there is this process's own function, of a process that has made an engine.
    Guest(Detail.EXITS, LOOP)
    assert {ctypes.c_uint64.from_address(one.address).value for one in called} != {
        library.address("tcg_gen_callN_x86_64")
    }
    listed = [one for one in library.slots("helper_le_ldq_mmu_x86_64") if one.kind == ABSOLUTE]
    assert len(listed) == 1
    assert len(library.code("tcg_emit_op_x86_64")) > 100
    with pytest.raises(LookupError, match="does not export no_such_function"):
        library.address("no_such_function")
    with pytest.raises(LookupError, match="calls uc_version through no table"):
        library.slots("uc_version")


def test_counting_is_chosen_by_detail_and_by_what_is_asked() -> None:
    assert isinstance(Guest(Detail.EXITS, LOOP, by_hooks=True).cpu.counts, counting.Uncounted)
    assert isinstance(Guest(Detail.FULL, LOOP, by_hooks=True).cpu.counts, HookedCounts)
