import assert from "node:assert/strict";
import { test } from "node:test";
import { renderFacts, renderTable } from "./table.ts";

test("columns align where Chinese and Latin mix", () => {
  assert.equal(
    renderTable(
      [{ title: "名称" }, { title: "形状" }, { title: "参数", align: "end" }],
      [
        ["input_embedding", "[30720, 64]", "1,966,080"],
        ["偏置表", "[1, 2]", "2"],
      ],
    ),
    [
      "名称             形状              参数",
      "───────────────  ───────────  ─────────",
      "input_embedding  [30720, 64]  1,966,080",
      "偏置表           [1, 2]               2",
    ].join("\n"),
  );
});

test("facts align their values and hang further lines", () => {
  assert.equal(
    renderFacts(
      [
        ["内存", "2 GiB"],
        ["threads", "2\n3"],
      ],
      "  ",
    ),
    "  内存     2 GiB\n  threads  2\n           3",
  );
});
