/** `cpm run`: lines in, texts out, from one loaded model. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { runCli } from "./support/cli-world.ts";
import { temporaryFolder, writeSmallModel } from "./support/text-model.ts";

const folder = temporaryFolder("cpm-run-");
const model = join(folder, "model");

/** The session's lines, and what stood on stdout. */
async function session(lines: readonly string[]) {
  const { code, stdout, stderr } = await runCli(["run", model, "--lang", "en"], { stdin: `${lines.join("\n")}\n` });
  assert.equal(code, 0, stderr);
  return { texts: stdout.split("\n").slice(0, -1), stderr };
}

suite("cpm run", () => {
  test("each line is continued; an empty one goes on, + appends, /again draws anew", async () => {
    await writeSmallModel(model);
    const { texts } = await session([
      "/set maxTokens 3",
      "/set temperature 2",
      "春天",
      "",
      "/again",
      "/again",
      "/set mode greedy",
      "春天",
      "春天",
    ]);
    const [first, further, again, third, greedy, same] = texts;
    assert.equal(texts.length, 6, JSON.stringify(texts));
    assert.ok(first && further && again && third);
    assert.notEqual(again, third, "another seed");
    assert.equal(greedy, same);
    const { texts: joined } = await session(["/set maxTokens 3", "/set mode greedy", "春", "+天"]);
    assert.equal(joined.length, 2);
  });

  test("what is wrong with a line is told, and the next is read", async () => {
    const { texts, stderr } = await session([
      "",
      "/nothing",
      "/set temperature -1",
      "/help",
      "/show",
      "/set maxTokens 2",
      "夏",
      "/quit",
      "秋",
    ]);
    assert.match(stderr, /There is no text yet/);
    assert.match(stderr, /no command \/nothing/);
    assert.match(stderr, /CPM_INFER_OPTIONS/);
    assert.ok(texts.includes("temperature 0.9"), "a refused setting changes nothing");
    assert.equal(
      texts
        .filter((line) => line !== "")
        .at(-1)
        ?.includes("秋"),
      false,
      "/quit ends",
    );
  });
});
