"""Writes src/tokenizer/data/jieba-0.42.1.bin.gz: jieba's dictionary and hidden Markov model as one compact file.

Reads the installed Python package jieba 0.42.1 (MIT licence, `pip install jieba==0.42.1`): its dict.txt and the tables
finalseg/prob_start.py, prob_trans.py and prob_emit.py. Run it only to write the file anew:

    python3 tools/jieba-data.py src/tokenizer/data/jieba-0.42.1.bin.gz

Why from Python: the segmenter compares sums of logarithms, and some paths tie exactly. The logarithms of the C library
and of V8 differ in the last bit for 77 of the dictionary's 5,087 frequencies, so the file carries the very doubles that
jieba computes and nobody takes a logarithm afterwards.

Layout (little endian, then gzip), read by src/tokenizer/jieba-data.ts:

    8 bytes   "CPMJIEBA"
    u32 * 8   version 1, words W, suffix units U, weights F, emission values E, first Han code, Han codes H, 0
    f64 * F   log(frequency) - log(total) of every distinct frequency; [0] is that of a word not in the dictionary
    f64 * 4   start probabilities of B, E, M, S
    f64 * 16  transition probabilities, from-major
    f64 * E   distinct emission probabilities; [0] is that of a character which the state has never emitted
    u16 * 4H  index into the emission values, state-major, over the Han codes
    u16 * W   index into the weights, words in the order of their UTF-16 units
    u16 * U   the units of each word that follow those which it shares with the word before it
    u8  * W   how many units a word shares with the word before it
    u8  * W   how many units follow

Words that hold a character outside jieba's block class can never be found and are left out; the total counts them.
"""

import gzip
import logging
import re
import struct
import sys
from array import array
from math import log

import jieba
import jieba.finalseg as finalseg

HAN_FIRST, HAN_LAST = 0x4E00, 0x9FD5
STATES = "BEMS"
BLOCK = re.compile(r"[\u4E00-\u9FD5a-zA-Z0-9+#&._%\-]+")


def little_endian(typecode, values):
    packed = array(typecode, values)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def main(path):
    assert jieba.__version__ == "0.42.1", jieba.__version__
    jieba.setLogLevel(logging.WARNING)
    dictionary = jieba.Tokenizer()
    frequencies, total = dictionary.gen_pfdict(dictionary.get_dict_file())

    words = sorted(word for word, count in frequencies.items() if count and BLOCK.fullmatch(word))
    counts = sorted({frequencies[word] for word in words})
    weights = [log(1) - log(total)] + [log(count) - log(total) for count in counts]
    weight_index = {count: index + 1 for index, count in enumerate(counts)}

    shared, following, suffixes, previous = [], [], [], ""
    for word in words:
        common = 0
        while common < min(len(word), len(previous)) and word[common] == previous[common]:
            common += 1
        shared.append(common)
        following.append(len(word) - common)
        suffixes.extend(map(ord, word[common:]))
        previous = word

    han = [chr(code) for code in range(HAN_FIRST, HAN_LAST + 1)]
    emitted = sorted({p for state in STATES for c, p in finalseg.emit_P[state].items() if HAN_FIRST <= ord(c) <= HAN_LAST})
    emission_index = {p: index + 1 for index, p in enumerate(emitted)}
    emissions = [finalseg.MIN_FLOAT] + emitted
    emission_of = [
        emission_index.get(finalseg.emit_P[state].get(c), 0) for state in STATES for c in han
    ]
    start = [finalseg.start_P[state] for state in STATES]
    trans = [finalseg.trans_P[a].get(b, finalseg.MIN_FLOAT) for a in STATES for b in STATES]

    body = b"".join(
        [
            b"CPMJIEBA",
            struct.pack("<8I", 1, len(words), len(suffixes), len(weights), len(emissions), HAN_FIRST, len(han), 0),
            little_endian("d", weights),
            little_endian("d", start),
            little_endian("d", trans),
            little_endian("d", emissions),
            little_endian("H", emission_of),
            little_endian("H", [weight_index[frequencies[word]] for word in words]),
            little_endian("H", suffixes),
            bytes(shared),
            bytes(following),
        ]
    )
    with open(path, "wb") as file:
        file.write(gzip.compress(body, compresslevel=9, mtime=0))
    print(f"{len(words)} words, {len(weights)} weights, {len(emissions)} emission values, total {total}")


if __name__ == "__main__":
    main(sys.argv[1])
