"""Peer of bench/data-build.ts: the original's way to ids in Python, one process, as its preprocessing runs in each worker.

Written from the description of the algorithm: jieba in precise mode, then greedy longest match of each word over the
vocabulary, unmatched characters dropped. Reads JSON Lines of texts from the file named first and the vocabulary named
second, then for every line on standard input encodes all texts once and prints seconds, processor seconds and tokens.
"""

import json
import logging
import platform
import sys
import time


def read_vocabulary(path):
    with open(path, encoding="utf-8") as file:
        tokens = [line.strip() for line in file if line.strip()]
    ids = {token: i for i, token in enumerate(tokens)}
    for mark, character in (("</_>", " "), ("</n>", "\n")):
        if mark in ids:
            ids[character] = ids.pop(mark)
    return ids


def encode(text, cut, ids, unknown):
    out = []
    for word in cut(text):
        length = len(word)
        if length > 200:
            continue
        start = 0
        while start < length:
            end = length
            found = None
            while start < end:
                found = ids.get(word[start:end])
                if found is not None:
                    break
                end -= 1
            if found is None:
                start += 1
                continue
            if found != unknown:
                out.append(found)
            start = end
    return out


def main():
    try:
        import jieba
    except ImportError:
        print(json.dumps({"missing": "jieba"}), flush=True)
        return
    jieba.setLogLevel(logging.ERROR)
    jieba.initialize()
    with open(sys.argv[1], encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    ids = read_vocabulary(sys.argv[2])
    print(json.dumps({"python": platform.python_version(), "jieba": jieba.__version__}), flush=True)
    for _ in sys.stdin:
        began, began_cpu = time.perf_counter(), time.process_time()
        tokens = sum(len(encode(text, jieba.cut, ids, ids.get("<unk>"))) for text in texts)
        seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
        print(json.dumps({"seconds": seconds, "cpuSeconds": cpu, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main()
