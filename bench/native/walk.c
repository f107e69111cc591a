/* The walks of Quire in C, for the benchmark beside them: the same tables, the same checks, the same references noted.
   4-level guest paging, 4-level EPT, every size of leaf; flags that are missing, and every fault, end a walk with a
   status, as the benchmark's tables have none. */
#include <stdint.h>
#include <stddef.h>

typedef uint64_t u64;
enum { P = 1, RW = 2, US = 4, A = 1 << 5, D = 1 << 6, PS = 1 << 7, EPT_A = 1 << 8, EPT_D = 1 << 9 };
#define ADDRESS 0x000FFFFFFFFFF000ull
#define XD (1ull << 63)

struct context { u64 cr3, eptp, bytes, reserved, nxe, wp, user, smep, smap; };
struct result { u64 status, hpa, gpa, gshift, hshift, rights, guest_refs, host_refs, guest_entry, host_entry, refs[24]; };

static u64 guest_reserved[10], ept_reserved[10];

void set_reserved(const u64 *guest, const u64 *ept)
{
    for (int n = 0; n < 10; n++) { guest_reserved[n] = guest[n]; ept_reserved[n] = ept[n]; }
}

static u64 walk_ept(u64 *memory, const struct context *c, struct result *r, u64 gpa, u64 want)
{
    u64 table = c->eptp & ADDRESS, rights = 7, used = EPT_A, entry, at;
    u64 count = r->guest_refs + r->host_refs;
    int level = 4, shift = 39;
    if (gpa >> 48) { r->status = 2; return ~0ull; }
    for (;;) {
        at = table + ((gpa >> shift & 511) << 3);
        if (at >= c->bytes) { r->status = 5; return ~0ull; }
        if (count < 24) r->refs[count] = at;
        count++; r->host_refs++;
        entry = memory[at >> 3];
        u64 low = entry & 7;
        if (!low) { r->status = 2; return ~0ull; }
        int leaf = level == 1 || (entry & PS && level <= 3);
        if (entry & (ept_reserved[2 * level + leaf] | c->reserved) || !(low & 1)) { r->status = 3; return ~0ull; }
        rights &= low; used &= entry;
        if (leaf) break;
        table = entry & ADDRESS; level--; shift -= 9;
    }
    if (!(0x73 >> (entry >> 3 & 7) & 1)) { r->status = 3; return ~0ull; }
    r->rights = rights; r->host_entry = entry; r->hshift = shift;
    if (want & ~rights) { r->status = 2; return ~0ull; }
    if (c->eptp & 1 << 6 && (!used || (want & 2 && !(entry & EPT_D)))) { r->status = 9; return ~0ull; }
    u64 offset = (1ull << shift) - 1;
    return (entry & ADDRESS & ~offset) | (gpa & offset);
}

static u64 walk(u64 *memory, const struct context *c, u64 gva, int access, struct result *r)
{
    u64 table = c->cr3 & ADDRESS, both = RW | US, either = 0, entry, hpa, beyond = c->reserved | (c->nxe ? 0 : XD);
    int level = 4, shift = 39;
    int64_t sign = (int64_t)gva >> 47;
    r->status = r->guest_refs = r->host_refs = 0;
    if (sign && sign != -1) return r->status = 4;
    for (;;) {
        u64 gpa = table + ((gva >> shift & 511) << 3);
        hpa = gpa;
        if (c->eptp && (hpa = walk_ept(memory, c, r, gpa, c->eptp & 1 << 6 ? 3 : 1)) == ~0ull) return r->status;
        if (hpa >= c->bytes) return r->status = 5;
        if (r->guest_refs + r->host_refs < 24) r->refs[r->guest_refs + r->host_refs] = hpa;
        r->guest_refs++;
        entry = memory[hpa >> 3];
        if (!(entry & P)) return r->status = 1;
        int leaf = level == 1 || (entry & PS && level <= 3);
        if (entry & (guest_reserved[2 * level + leaf] | beyond)) return r->status = 1;
        both &= entry; either |= entry & XD;
        if (leaf) break;
        if (!(entry & A)) return r->status = 9;
        table = entry & ADDRESS; level--; shift -= 9;
    }
    u64 allowed;
    if (c->user) allowed = both & US ? 1 | (both & RW ? 2 : 0) | (either ? 0 : 4) : 0;
    else allowed = (both & US && c->smap ? 0 : 1 | (both & RW || !c->wp ? 2 : 0))
                 | (either || (both & US && c->smep) ? 0 : 4);
    u64 want = 1ull << access;
    if (want & ~allowed) return r->status = 1;
    if ((A | (access == 1 ? D : 0)) & ~entry) return r->status = 9;
    u64 offset = (1ull << shift) - 1;
    r->gpa = (entry & ADDRESS & ~offset) | (gva & offset);
    r->gshift = r->hshift = shift; r->guest_entry = entry;
    hpa = r->gpa;
    if (c->eptp) {
        if ((hpa = walk_ept(memory, c, r, r->gpa, want)) == ~0ull) return r->status;
        allowed &= r->rights;
    }
    if (hpa >= c->bytes) return r->status = 5;
    r->hpa = hpa; r->rights = allowed;
    return 0;
}

u64 walk_serial(u64 *memory, const struct context *c, const u64 *gvas, size_t n, int access, u64 *values)
{
    struct result r = {0};
    u64 failed = 0;
    for (size_t i = 0; i < n; i++) { failed |= walk(memory, c, gvas[i], access, &r); values[i] = r.hpa; }
    return failed;
}

/* A group in step, as Quire's batch: decided by what all entries of a level have and what any has. */
#define GROUP 64
struct group { u64 table[GROUP], gpa[GROUP], hpa[GROUP], at[GROUP], entry[GROUP], index[GROUP]; };

static int ept_group(u64 *memory, const struct context *c, struct group *restrict g, u64 rights, u64 leaf_flags)
{
    u64 last = c->bytes - 1, needed = rights | 1 | (c->eptp & 1 << 6 ? EPT_A : 0), high = 0;
    for (int k = 0; k < GROUP; k++) { high |= g->gpa[k]; g->hpa[k] = c->eptp & ADDRESS; }
    if (high >> 48) return 0;
    for (int n = 0; n < 4; n++) {
        int shift = 39 - 9 * n;
        u64 over = 0, some = 0, every = ~0ull, kinds = 0;
        for (int k = 0; k < GROUP; k++) {
            u64 at = g->hpa[k] + ((g->gpa[k] >> shift & 511) << 3);
            over |= last - at; g->index[k] = at >> 3;
        }
        if (over >> 63) return 0;
        for (int k = 0; k < GROUP; k++) g->entry[k] = memory[g->index[k]];
        for (int k = 0; k < GROUP; k++) {
            u64 e = g->entry[k];
            some |= e; every &= e; kinds |= e & (~(e >> 1) | e << 1) & 0x10; g->hpa[k] = e & ADDRESS;
        }
        if ((every & needed) != needed) return 0;
        if (n == 3 || (n > 0 && some & PS)) {
            if ((n != 3 && !(every & PS)) || kinds || some & (ept_reserved[9 - 2 * n] | c->reserved)
                || (every & leaf_flags) != leaf_flags) return 0;
            u64 offset = (1ull << shift) - 1;
            for (int k = 0; k < GROUP; k++) g->hpa[k] = (g->hpa[k] & ~offset) | (g->gpa[k] & offset);
            return 1;
        }
        if (some & (ept_reserved[8 - 2 * n] | c->reserved)) return 0;
    }
    return 0;
}

static int walk_group(u64 *memory, const struct context *c, struct group *restrict g, int access)
{
    u64 last = c->bytes - 1, beyond = c->reserved | (c->nxe ? 0 : XD), all = ~0ull, any = 0, users = 0, over;
    u64 ad = c->eptp & 1 << 6, leaf_flags = access == 1 ? D : 0, want = 1ull << access, allowed;
    for (int n = 0; n < 4; n++) {
        int shift = 39 - 9 * n;
        u64 some = 0, every = ~0ull;
        for (int k = 0; k < GROUP; k++) g->hpa[k] = g->gpa[k] = g->table[k] + ((g->at[k] >> shift & 511) << 3);
        if (c->eptp && !ept_group(memory, c, g, ad ? 3 : 1, ad ? EPT_D : 0)) return 0;
        over = 0;
        for (int k = 0; k < GROUP; k++) over |= last - g->hpa[k];
        if (over >> 63) return 0;
        for (int k = 0; k < GROUP; k++) g->entry[k] = memory[g->hpa[k] >> 3];
        for (int k = 0; k < GROUP; k++) { some |= g->entry[k]; every &= g->entry[k]; g->table[k] = g->entry[k] & ADDRESS; }
        all &= every; any |= some; users = some & US;
        if ((every & (P | A)) != (P | A)) return 0;
        if (n == 3 || (n > 0 && some & PS)) {
            if ((n != 3 && !(every & PS)) || some & (guest_reserved[9 - 2 * n] | beyond)
                || (every & leaf_flags) != leaf_flags) return 0;
            u64 offset = (1ull << shift) - 1;
            for (int k = 0; k < GROUP; k++) g->table[k] = (g->table[k] & ~offset) | (g->at[k] & offset);
            break;
        }
        if (some & (guest_reserved[8 - 2 * n] | beyond)) return 0;
    }
    if (users && !(all & US)) return 0;
    if (c->user) allowed = all & US ? 1 | (all & RW ? 2 : 0) | (any & XD ? 0 : 4) : 0;
    else allowed = (all & US && c->smap ? 0 : 1 | (all & RW || !c->wp ? 2 : 0)) | (any & XD || (all & US && c->smep) ? 0 : 4);
    if (want & ~allowed) return 0;
    for (int k = 0; k < GROUP; k++) g->gpa[k] = g->hpa[k] = g->table[k];
    if (c->eptp && !ept_group(memory, c, g, want, access == 1 && ad ? EPT_D : 0)) return 0;
    over = 0;
    for (int k = 0; k < GROUP; k++) over |= last - g->hpa[k];
    return !(over >> 63);
}

u64 walk_batch(u64 *memory, const struct context *c, const u64 *gvas, size_t n, int access, u64 *values)
{
    struct group lanes;
    struct result r = {0};
    u64 failed = 0;
    for (size_t first = 0; first < n; first += GROUP) {
        int count = n - first < GROUP ? (int)(n - first) : GROUP, canonical = count == GROUP;
        for (int k = 0; k < count; k++) {
            int64_t sign = (int64_t)gvas[first + k] >> 47;
            canonical &= !sign || sign == -1;
            lanes.at[k] = gvas[first + k]; lanes.table[k] = c->cr3 & ADDRESS;
        }
        int together = canonical && walk_group(memory, c, &lanes, access);
        for (int k = 0; k < count; k++) {
            if (!together) failed |= walk(memory, c, gvas[first + k], access, &r);
            values[first + k] = together ? lanes.hpa[k] : r.hpa;
        }
    }
    return failed;
}
