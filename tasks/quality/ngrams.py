"""Repeated n-grams of one text by a kernel: exactly what datatrove's Gopher repetition filter counts.

datatrove joins the words of an n-gram by blanks to find the commonest, so these are compared word by word; to find the
repeated ones it joins them by nothing, so those are compared letter by letter ("a bc" repeats "ab c").
"""

import numpy as np

from domainlm.tasks.quality.characters import Text, kernel
from domainlm.tasks.quality.words import Hashes, Places, Slots, clear_slots, hash_of_run, same_letters, slot_of


@kernel
def commonest_ngram_chars(
    words: int, n: int, begins: Places, numbers: Slots, shorter: Slots, longer: Slots, slots: Slots, tally: Slots
) -> int:
    """Characters that the commonest n-gram covers, the first of equals; blanks between its words count.

    shorter: the numbers of the (n-1)-grams; longer: filled with those of the n-grams.
    """
    if words < n:
        return 0
    grams = words - n + 1
    shift = clear_slots(slots, grams)
    mask = (1 << (64 - shift)) - 1
    for i in range(grams):
        head, last = shorter[i], numbers[i + n - 1]
        slot = slot_of((np.uint64(head) << np.uint64(32)) | np.uint64(last), shift)
        while True:
            found = slots[slot]
            if found < 0:
                slots[slot] = longer[i] = i
                tally[i] = 1
                break
            if shorter[found] == head and numbers[found + n - 1] == last:
                longer[i] = found
                tally[found] += 1
                tally[i] = 0
                break
            slot = (slot + 1) & mask
    best = 0
    for i in range(grams):
        if tally[i] > tally[best]:
            best = i
    return int((begins[best + n] - begins[best] + n - 1) * tally[best])


@kernel
def repeated_ngram_chars(
    words: int, n: int, letters: Text, begins: Places, sums: Hashes, slots: Slots, keys: Hashes
) -> int:
    """Letters of the n-grams that were seen before, going on after each of them."""
    if words < n:
        return 0
    shift = clear_slots(slots, words - n + 1)
    mask = (1 << (64 - shift)) - 1
    repeated = i = 0
    while i + n <= words:
        begin, length = begins[i], begins[i + n] - begins[i]
        key = hash_of_run(begins, sums, i, i + n)
        slot = slot_of(key, shift)
        seen = False
        while slots[slot] >= 0:
            if keys[slot] == key:
                other = slots[slot]
                if begins[other + n] - begins[other] == length and same_letters(letters, begins[other], begin, length):
                    seen = True
                    break
            slot = (slot + 1) & mask
        if seen:
            repeated += length
            i += n
        else:
            slots[slot], keys[slot] = i, key
            i += 1
    return int(repeated)
