/** `cpm data import` through the command. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runCli } from "./support/cli-world.ts";
import { pickledArray, writeOriginal } from "./support/original-writer.ts";
import { smallVocabulary, temporaryFolder } from "./support/text-model.ts";

const root = temporaryFolder("cpm-data-import-");
const { text: vocabulary } = await smallVocabulary();
const vocab = join(root, "vocab.txt");
writeFileSync(vocab, vocabulary);

test("a folder of CPM-Live becomes a data set; what cannot be used is shown", async () => {
  const records = [
    [1, 1, 4, 1, 0, 6, 300, 301, 7],
    [2, 1, 4, 2, 1, 6, 302, 303, 7],
    [9, 9, 9],
  ].map((ids) => pickledArray(ids));
  const folder = writeOriginal(join(root, "data bin"), 1, [{ name: "part", records }]);
  const words = ["data", "import", folder, "--vocab", vocab, "--licence", "MIT"];
  const shown = await runCli([...words, "-o", join(root, "shown"), "--lang", "en"]);
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /^data_bin-fill +fill +1 +2$/m);
  assert.match(shown.stdout, /^data_bin-lm +lm +1 +2$/m);
  assert.match(shown.stderr, /left out .*part:3: neither/);
  const { code, stdout } = await runCli([...words, "-o", join(root, "json"), "--json", "--name", "ant"]);
  assert.equal(code, 0);
  const { sources, statistics } = JSON.parse(stdout);
  assert.deepEqual(
    sources.map((source: { name: string; licence: string }) => [source.name, source.licence]),
    [
      ["ant-fill", "MIT"],
      ["ant-lm", "MIT"],
    ],
  );
  assert.equal(statistics.badLines, 1);
});

test("wrong input is an error with a code", async () => {
  const nothing = await runCli(["data", "import", root, "--vocab", vocab, "-o", join(root, "x")]);
  assert.match(nothing.stderr, /CPM_DATA_IMPORT/);
  const noVocabulary = await runCli(["data", "import", root, "--vocab", join(root, "absent"), "-o", join(root, "y")]);
  assert.match(noVocabulary.stderr, /CPM_DATA_FILE/);
  assert.notEqual(nothing.code, 0);
});
