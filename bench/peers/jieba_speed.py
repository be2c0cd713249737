"""Peer of bench/tokenizer.ts: Python's jieba on the same texts, one round for each line that comes in.

Reads texts from the JSON file named on the command line (a list of strings), loads jieba, prints a line of JSON with
the versions and the load time, then for every line on standard input cuts all texts once and prints the seconds and
a checksum of the words (their number and an FNV-1a hash over the word lengths in UTF-16 units).
"""

import json
import logging
import platform
import sys
import time


def checksum(words_of_texts):
    value = 0x811C9DC5
    count = 0
    for words in words_of_texts:
        count += len(words)
        for word in words:
            units = sum(2 if ord(character) > 0xFFFF else 1 for character in word)
            value = ((value ^ units) * 0x01000193) & 0xFFFFFFFF
    return f"{count}:{value:08x}"


def main():
    try:
        import jieba
    except ImportError:
        print(json.dumps({"missing": "jieba"}), flush=True)
        return
    jieba.setLogLevel(logging.ERROR)
    with open(sys.argv[1], encoding="utf-8") as file:
        texts = json.load(file)
    began = time.perf_counter()
    tokenizer = jieba.Tokenizer()
    # Built from dict.txt, as at a first start, not from the cache of an earlier one.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    load_seconds = time.perf_counter() - began
    print(
        json.dumps(
            {"python": platform.python_version(), "jieba": jieba.__version__, "loadSeconds": load_seconds}
        ),
        flush=True,
    )
    for _ in sys.stdin:
        began = time.perf_counter()
        words = [tokenizer.lcut(text) for text in texts]
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "checksum": checksum(words)}), flush=True)


if __name__ == "__main__":
    main()
