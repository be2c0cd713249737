"""The values that src/evaluate/*.test.ts expects, from established implementations on the strings below.

    pip install sacrebleu==2.6.0 rouge-score==0.1.2 rouge-chinese==1.0.3 nltk jieba==0.42.1 scikit-learn scipy
    python bench/peers/evaluation_metrics.py

BLEU: sacrebleu (tokenize="none" on units joined by spaces; smoothing exp and none) and nltk's corpus_bleu; ROUGE: rouge-score
with a tokenizer that splits at spaces, and rouge-chinese (F of ROUGE-L; its ROUGE-N takes sets of runs, which differs);
ranking: scikit-learn (NDCG, average precision); tests: scipy (binomtest as McNemar's exact test).
"""
import json

import jieba
import nltk.translate.bleu_score as nltk_bleu
import numpy as np
from rouge_chinese import Rouge
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, ndcg_score

HYPOTHESES = [
    "春天来了，公园里的花都开了。",
    "我国成功发射一颗通信卫星",
    "他说明天会下雨，我们还去吗？",
    "好的好的好的好的",
    "GDP 增长 5.2%",
]
REFERENCES = [
    ["春天到了，公园里开满了花。", "公园的花在春天都开了。"],
    ["我国成功发射通信技术试验卫星", "中国发射一颗新的通信卫星"],
    ["他说明天下雨，我们就不去了。", "明天会下雨，还去不去？"],
    ["好的，明天见。", "好的。"],
    ["去年 GDP 增长 5.2%", "经济增长 5.2%"],
]


def units(text, unit):
    cut = list(text) if unit == "characters" else jieba.lcut(text)
    return [piece for piece in cut if piece.strip()]


class Split:
    def tokenize(self, text):
        return text.split(" ")


out = {}
for unit in ("characters", "words"):
    hypotheses = [units(text, unit) for text in HYPOTHESES]
    references = [[units(text, unit) for text in texts] for texts in REFERENCES]
    joined = [" ".join(text) for text in hypotheses]
    columns = [[" ".join(texts[k]) for texts in references] for k in range(2)]
    for order in (1, 2, 3, 4):
        for smoothing in ("exp", "none"):
            metric = BLEU(max_ngram_order=order, smooth_method=smoothing, tokenize="none")
            out[f"bleu{order}.{unit}.{smoothing}"] = metric.corpus_score(joined, columns).score / 100
        weights = [1 / order] * order
        out[f"bleu{order}.{unit}.nltk"] = nltk_bleu.corpus_bleu(references, hypotheses, weights=weights)
    # One reference alone, so that orders run out of matches and smoothing matters.
    alone = BLEU(tokenize="none").corpus_score([joined[3]], [[columns[0][3]]])
    out[f"bleu4.{unit}.alone"] = alone.score / 100
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=Split())
    for kind in ("rouge1", "rouge2", "rougeL"):
        best = [
            max(scorer.score(" ".join(reference), hypothesis)[kind].fmeasure for reference in texts)
            for hypothesis, texts in zip(joined, references)
        ]
        out[f"{kind}.{unit}"] = [round(value, 12) for value in best]
    first = Rouge().get_scores(joined, columns[0])
    out[f"rougeL.{unit}.rouge-chinese.first"] = [score["rouge-l"]["f"] for score in first]
    mine = [max(scorer.score(texts[0], h)["rougeL"].fmeasure for texts in [[c]]) for h, c in zip(joined, columns[0])]
    out[f"rougeL.{unit}.first"] = mine
    for order in (1, 2):
        runs = [tuple(text[i : i + order]) for text in hypotheses for i in range(len(text) - order + 1)]
        out[f"distinct{order}.{unit}"] = len(set(runs)) / len(runs)

relevance = [[0, 1, 0, 1, 1], [1, 0, 0, 0, 0], [0, 0, 3, 1, 2]]
scores = [[0.9, 0.8, 0.7, 0.6, 0.1], [0.1, 0.5, 0.4, 0.3, 0.2], [0.5, 0.9, 0.4, 0.3, 0.2]]
gains = [[2**grade - 1 for grade in row] for row in relevance]
out["ndcg"] = [ndcg_score([g], [s]) for g, s in zip(gains, scores)]
out["ndcg@3"] = [ndcg_score([g], [s], k=3) for g, s in zip(gains, scores)]
out["map"] = [average_precision_score(np.array(r) > 0, s) for r, s in zip(relevance, scores)]
out["mcnemar"] = {f"{b},{c}": binomtest(min(b, c), b + c).pvalue for b, c in [(3, 12), (0, 5), (7, 7), (40, 65), (1, 0)]}
print(json.dumps(out, indent=1, ensure_ascii=False))
