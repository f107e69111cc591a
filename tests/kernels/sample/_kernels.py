"""What kernels may do, one thing each."""

import numpy as np

from quire.kernels import callback, kernel, types

ARRAY, BYTES = types.uint64[::1], types.uint8[::1]
read = types.ExternalFunction("read", types.int64(types.int32, types.uint64, types.uint64))


@kernel(types.int64(ARRAY, types.int64, types.int64))
def divided(words, value, by):
    return value // by


@kernel(types.boolean(ARRAY, types.boolean, types.uint64))
def agree(words, truth, word):
    return truth == (word != np.uint64(0))


@kernel(types.void(ARRAY, types.int64, types.uint64))
def put(words, at, value):
    words[at] = value


@kernel(types.int64(ARRAY, types.int64, types.uint64))
def wait_for_byte(words, descriptor, address):
    return read(np.int32(descriptor), address, np.uint64(1))


@kernel(types.int64(types.int64))
def part_of_others(value):
    return value


@kernel(types.uint64(ARRAY, BYTES))
def total(words, octets):
    found = np.uint64(0)
    for word in words:
        found += word
    for octet in octets:
        found += np.uint64(octet)
    return found


@callback(types.int64(types.CPointer(types.int64), types.int32))
def scaled(value, by):
    return value[0] * by
