/* The walks of Quire in C, for the benchmark beside them: the same tables, the same checks, the same references noted.
   4-level guest paging, 4-level EPT, every size of leaf; flags that are missing, and every fault, end a walk with a
   status, as the benchmark's tables have none. */
#include <stdint.h>
#include <stddef.h>

typedef uint64_t u64;
enum { P = 1, RW = 2, US = 4, A = 1 << 5, D = 1 << 6, PS = 1 << 7, EPT_A = 1 << 8, EPT_D = 1 << 9 };
#define ADDRESS 0x000FFFFFFFFFF000ull
#define XD (1ull << 63)
#define LANES 16

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

/* Lanes in step, as Quire's batch: a lane that meets anything but the common case is walked alone. */
struct lanes { u64 table[LANES], gpa[LANES], hpa[LANES], leaf[LANES], upper[LANES], state[LANES], at[LANES], entry[LANES], page[LANES]; };

static void ept_lanes(u64 *memory, const struct context *c, struct lanes *s, int lanes, u64 rights, u64 leaf_flags)
{
    u64 flags = c->eptp & 1 << 6 ? EPT_A : 0;
    for (int k = 0; k < lanes; k++) { s->hpa[k] = c->eptp & ADDRESS; s->page[k] = 0; if (s->gpa[k] >> 48) s->state[k] |= 2; }
    for (int n = 0; n < 4; n++) {
        int shift = 39 - 9 * n, even = 2 * (4 - n), open = 0;
        for (int k = 0; k < lanes; k++) {
            if (s->page[k]) continue;
            u64 at = s->hpa[k] + ((s->gpa[k] >> shift & 511) << 3);
            if (at >= c->bytes) { s->state[k] |= 2; at = 0; }
            s->entry[k] = memory[at >> 3];
        }
        for (int k = 0; k < lanes; k++) {
            if (s->page[k]) continue;
            u64 entry = s->entry[k], needed = rights | flags;
            int leaf = n == 3 || (n > 0 && entry & PS);
            if (leaf) {
                needed |= leaf_flags;
                if (!(0x73 >> (entry >> 3 & 7) & 1)) s->state[k] |= 2;
                u64 offset = (1ull << shift) - 1;
                s->hpa[k] = (entry & ADDRESS & ~offset) | (s->gpa[k] & offset); s->page[k] = 1;
            } else { s->hpa[k] = entry & ADDRESS; open = 1; }
            if ((entry & needed) != needed || entry & (ept_reserved[even + leaf] | c->reserved) || !(entry & 1)) s->state[k] |= 2;
        }
        if (!open) break;
    }
}

u64 walk_batch(u64 *memory, const struct context *c, const u64 *gvas, size_t n, int access, u64 *values)
{
    struct lanes lanes_of, *s = &lanes_of;
    u64 failed = 0, beyond = c->reserved | (c->nxe ? 0 : XD), want = 1ull << access;
    u64 ad = c->eptp & 1 << 6;
    for (size_t first = 0; first < n; first += LANES) {
        int lanes = n - first < LANES ? (int)(n - first) : LANES;
        for (int k = 0; k < lanes; k++) {
            int64_t sign = (int64_t)gvas[first + k] >> 47;
            s->at[k] = gvas[first + k]; s->table[k] = c->cr3 & ADDRESS; s->upper[k] = RW | US;
            s->state[k] = sign && sign != -1 ? 2 : 0;
        }
        for (int level = 0; level < 4; level++) {
            int shift = 39 - 9 * level, even = 2 * (4 - level), open = 0;
            for (int k = 0; k < lanes; k++)
                if (!(s->state[k] & 1)) s->hpa[k] = s->gpa[k] = s->table[k] + ((s->at[k] >> shift & 511) << 3);
            if (c->eptp) ept_lanes(memory, c, s, lanes, ad ? 3 : 1, ad ? EPT_D : 0);
            for (int k = 0; k < lanes; k++) {
                u64 at = s->hpa[k];
                if (at >= c->bytes) { s->state[k] |= 2; at = 0; }
                if (!(s->state[k] & 1)) s->entry[k] = memory[at >> 3];
            }
            for (int k = 0; k < lanes; k++) {
                if (s->state[k] & 1) continue;
                u64 entry = s->entry[k], needed = P | A;
                int leaf = level == 3 || (level > 0 && entry & PS);
                s->upper[k] = (s->upper[k] & (entry | XD)) | (entry & XD);
                if (leaf) {
                    needed |= access == 1 ? D : 0;
                    u64 offset = (1ull << shift) - 1;
                    s->leaf[k] = entry; s->table[k] = (entry & ADDRESS & ~offset) | (s->at[k] & offset); s->state[k] |= 1;
                } else { s->table[k] = entry & ADDRESS; open = 1; }
                if ((entry & needed) != needed || entry & (guest_reserved[even + leaf] | beyond)) s->state[k] |= 2;
            }
            if (!open) break;
        }
        for (int k = 0; k < lanes; k++) {
            u64 u = s->upper[k], allowed;
            if (c->user) allowed = u & US ? 1 | (u & RW ? 2 : 0) | (u & XD ? 0 : 4) : 0;
            else allowed = (u & US && c->smap ? 0 : 1 | (u & RW || !c->wp ? 2 : 0)) | (u & XD || (u & US && c->smep) ? 0 : 4);
            if (want & ~allowed) s->state[k] |= 2;
            s->gpa[k] = s->hpa[k] = s->table[k];
        }
        if (c->eptp) ept_lanes(memory, c, s, lanes, want, access == 1 && ad ? EPT_D : 0);
        for (int k = 0; k < lanes; k++) {
            struct result r = {0};
            values[first + k] = s->hpa[k];
            if (s->state[k] & 2 || s->hpa[k] >= c->bytes) { failed |= walk(memory, c, gvas[first + k], access, &r); values[first + k] = r.hpa; }
        }
    }
    return failed;
}
