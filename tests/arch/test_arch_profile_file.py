"""CPU profiles in TOML: what the reader takes, every message of what it refuses, and what comes with Quire."""

import tomllib
from pathlib import Path

import pytest

from quire.arch import Held, Replacement, Side, profile_by_name, profile_names
from quire.arch.profile_file import parse_profile
from quire.errors import FormatError

WHOLE = """
name = "mine"
title = "My processor"
vendor = "Me"
maxphyaddr = 40
linear_bits = 57
page_1g = true
nx = false
walkers = 3
source = "a data sheet"

[[tlb]]
name = "L1"
level = 1
sides = ["load", "store"]
pages = ["4K", "1G"]
entries = 48
ways = 12
replacement = "plru"
source = "a data sheet; assumption: a tree"
assumed = ["replacement"]

[[walk_cache]]
name = "EPT"
mappings = "guest-physical"
holds = ["PDE", "page"]
entries = 24
ways = "full"
replacement = "random"
source = "a data sheet"
"""
FILES = [name for name in profile_names() if name != "architecture"]
FOLDER = Path(__file__).resolve().parents[2] / "src" / "quire" / "arch" / "profiles"


def test_every_value_arrives() -> None:
    made = parse_profile(WHOLE, "mine.toml")
    assert (made.name, made.title, made.vendor, made.aliases) == ("mine", "My processor", "Me", ())
    assert (made.maxphyaddr, made.linear_bits, made.page_1g, made.nx, made.rtm) == (
        40,
        57,
        True,
        False,
        False,
    )
    assert (made.walkers, made.source, made.notes) == (3, "a data sheet", ())
    (tlb,), (cache,) = made.tlbs, made.walk_caches
    assert (tlb.name, tlb.level, tlb.sides, tlb.page_shifts) == ("L1", 1, (Side.LOAD, Side.STORE), (12, 30))
    assert (tlb.entries, tlb.ways, tlb.replacement) == (48, 12, Replacement.PLRU)
    assert (tlb.source, tlb.assumed) == ("a data sheet; assumption: a tree", ("replacement",))
    assert (cache.name, cache.guest_physical, cache.holds) == ("EPT", True, (Held.PDE, Held.PAGE))
    assert (cache.entries, cache.ways, cache.replacement) == (24, 24, Replacement.RANDOM)
    assert (cache.source, cache.assumed) == ("a data sheet", ())


def test_a_tlb_without_bound() -> None:
    text = WHOLE.replace('entries = 48\nways = 12\nreplacement = "plru"\n', 'entries = "unbounded"\n')
    text = text.replace('"a data sheet; assumption: a tree"\nassumed = ["replacement"]', '"nobody"')
    (tlb,) = parse_profile(text, "mine.toml").tlbs
    assert (tlb.entries, tlb.sets, tlb.source) == (None, 1, "nobody")


REFUSED = {
    "toml": ("walkers = 3", "walkers",
             "is not TOML: Expected '=' after a key in a key/value pair (at line 9, column 8)"),
    "unknown": ("nx = false", "nx = false\nwalker = 2",
                "walker is not known (did you mean 'walkers'?): there is name, title, vendor, maxphyaddr, linear_bits, "
                "page_1g, nx, walkers, source, aliases, rtm, ept_walk_length_5, notes, "
                "other_maxphyaddr, vmx, tlb, walk_cache"),
    "vmx": ("nx = false", 'nx = false\nvmx = 1', "vmx is 1: begin it with a line [vmx]"),
    "vmx known": ("[[tlb]]", '[vmx]\ncr4 = ["PAE"]\nknown = ["cr5"]\nsource = "me"\n[[tlb]]',
                  "vmx.known has 'cr5' (did you mean 'cr4'?): it may have pin, primary, secondary, tertiary, exit, "
                  "secondary_exit, entry, vm_functions, cr4, misc, basic, ept_vpid_cap, vmcs_enum"),
    "vmx cr4": ("[[tlb]]", '[vmx]\ncr4 = ["LA58"]\nknown = ["cr4"]\nsource = "me"\n[[tlb]]',
                "vmx.cr4 has 'LA58' (did you mean 'LA57'?): it may have VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, "
                "OSFXSR, OSXMMEXCPT, UMIP, LA57, VMXE, SMXE, FSGSBASE, PCIDE, OSXSAVE, KL, SMEP, SMAP, PKE, CET, PKS, "
                "UINTR, LASS, LAM_SUP, FRED"),
    "widths": ("nx = false", 'nx = false\nother_maxphyaddr = ["46"]',
               "other_maxphyaddr is ['46']: give a list of whole numbers, [46, 52]"),
    "missing": ('vendor = "Me"\n', "", "vendor is missing: add it"),
    "text": ('"Me"', "7", "vendor is 7: give a text in quotes"),
    "blank": ('"My processor"', '" "', "title is ' ': give a text in quotes"),
    "number": ("= 40", '= "40"', "maxphyaddr is '40': give a whole number"),
    "true": ("= 40", "= true", "maxphyaddr is True: give a whole number"),
    "boolean": ("nx = false", "nx = 0", "nx is 0: give true or false"),
    "list": ("nx = false", 'nx = false\naliases = "me"', 'aliases is \'me\': give a list of texts, ["one", "two"]'),
    "profile": ("= 40", "= 60", "MAXPHYADDR 0x3c is outside 0x20 to 0x34: give CPUID.80000008H:EAX[7:0]"),
    "tables": ("[[tlb]]", "[tlb]", "tlb is no list of tables: begin each with a line [[tlb]]"),
    "tlb unknown": ("level = 1", "level = 1\nway = 4",
                    "tlb[0].way is not known (did you mean 'ways'?): there is name, level, sides, pages, entries, "
                    "source, ways, replacement, assumed"),
    "tlb missing": ("level = 1\n", "", "tlb[0].level is missing: add it"),
    "unbounded": ("= 48", '= "unbounded"',
                  "tlb[0].ways means nothing where entries are 'unbounded': leave it out"),
    "entries": ("= 48", '= "many"', "tlb[0].entries is 'many': give a whole number or 'unbounded'"),
    "ways": ("= 12", "= 1.5", "tlb[0].ways is 1.5: give a whole number or 'full'"),
    "geometry": ("= 12", "= 7",
                 "TLB L1: 48 entries do not divide into 7 ways: give entries as a multiple of ways"),
    "sides": ('"store"]', '"stores"]',
              "tlb[0].sides has 'stores' (did you mean 'store'?): it may have fetch, load, store"),
    "twice": ('"store"]', '"load"]',
              "tlb[0].sides is ['load', 'load']: name one or more of fetch, load, store, each once"),
    "none": ('["4K", "1G"]', "[]", "tlb[0].pages is []: name one or more of 4K, 2M, 1G, each once"),
    "replacement": ('"plru"', '"fifo"', "tlb[0].replacement is 'fifo': give one of lru, plru, random"),
    "silent": ("; assumption: a tree", "",
               "tlb[0].source is silent on what is assumed: add 'assumption' and what it rests on"),
    "of what": ('assumed = ["replacement"]\n', "",
                "tlb[0].assumed is missing, and the source has an assumption: list the keys that it is of"),
    "assumed": ('["replacement"]', '["colour"]',
                "tlb[0].assumed has 'colour': it may have level, sides, pages, entries, ways, replacement"),
    "mappings": ('"guest-physical"', '"guest"',
                 "walk_cache[0].mappings is 'guest' (did you mean 'guest-physical'?): "
                 "give one of linear, guest-physical"),
    "holds": ('"PDE", "page"', '"PTE"',
              "walk_cache[0].holds has 'PTE' (did you mean 'PDPTE'?): it may have PDE, PDPTE, PML4E, PML5E, page"),
    "a TLB": ('"guest-physical"', '"linear"',
              "Walk cache EPT holds pages of linear addresses: that is a TLB, list it there"),
    "cache entries": ("= 24", '= "unbounded"', "walk_cache[0].entries is 'unbounded': give a whole number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    before, after, message = REFUSED[name]
    assert before in WHOLE
    with pytest.raises(FormatError) as caught:
        parse_profile(WHOLE.replace(before, after, 1), "mine.toml")
    said = message if message.startswith("is not TOML") else f": {message}"
    assert str(caught.value) == f"CPU profile 'mine.toml'{' ' * (said is message)}{said}"


@pytest.mark.parametrize("name", FILES)
def test_shipped_profiles_name_themselves_and_their_sources(name: str) -> None:
    """A number is published or an assumption; which of the two it is, is in the file."""
    profile = profile_by_name(name)
    assert profile.name == name
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    for structure in (*content.get("tlb", []), *content.get("walk_cache", [])):
        assert len(structure["source"]) > len("assumption: as"), structure
        assert bool(structure.get("assumed")) == ("assumption" in structure["source"]), structure
    for one in (*profile.tlbs, *profile.walk_caches):
        assert one.source and len(one.name) <= 16
    if profile.walk_caches:  # nobody published how any of them replaces
        assert all("replacement" in one.assumed for one in (*profile.tlbs, *profile.walk_caches))


@pytest.mark.parametrize("name", FILES)
def test_shipped_profiles_are_whole(name: str) -> None:
    """Every access finds a TLB of 4 KiB pages at each level that there is; walks skip what can be skipped."""
    profile = profile_by_name(name)
    for level in {tlb.level for tlb in profile.tlbs}:
        sides = [
            side for tlb in profile.tlbs if tlb.level == level and 12 in tlb.page_shifts for side in tlb.sides
        ]
        assert sorted(sides) == sorted(Side)
    upper = {Held.PDE, Held.PDPTE, Held.PML4E} | ({Held.PML5E} if profile.linear_bits == 57 else set())
    for guest_physical in (False, True):
        held = {
            one
            for cache in profile.walk_caches
            if cache.guest_physical is guest_physical
            for one in cache.holds
        }
        assert held in (set(), upper | ({Held.PAGE} if guest_physical else set()))
    assert bool(profile.walk_caches) == (name not in ("ideal", "none"))
