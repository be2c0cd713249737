/** `cpm serve keys`: the file of API keys. */
import { z } from "zod";
import { scopes } from "../../serve/api-keys.ts";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { type CommandContext, note, print, printJson, say } from "../context.ts";
import { serveMessages as messages } from "../messages/serve.ts";
import { formatInteger } from "../quantity.ts";
import { renderTable } from "../table.ts";

export default defineCommand({
  name: "serve keys",
  summary: messages.keysSummary,
  description: messages.keysDescription,
  json: true,
  examples: [
    { line: "serve keys add --name app --scopes generate --requests-per-minute 60", ...messages.exampleAdd },
    { line: "serve keys revoke app", ...messages.exampleRevoke },
  ],
  schema: z.object({
    action: z
      .enum(["add", "list", "revoke"])
      .describe(messages.keysAction.en)
      .meta({ zh: messages.keysAction.zh, positional: true, placeholder: "ACTION" }),
    target: z
      .string()
      .min(1)
      .optional()
      .describe(messages.keysTarget.en)
      .meta({ zh: messages.keysTarget.zh, positional: true, placeholder: "KEY" }),
    file: z
      .string()
      .min(1)
      .default("keys.json")
      .describe(messages.keysFile.en)
      .meta({ zh: messages.keysFile.zh, placeholder: "FILE", alias: "f" }),
    name: z.string().min(1).max(100).optional().describe(messages.keysName.en).meta({ zh: messages.keysName.zh }),
    scopes: z
      .array(z.enum(scopes))
      .min(1)
      .default([...scopes])
      .describe(messages.keysScopes.en)
      .meta({ zh: messages.keysScopes.zh }),
    requestsPerMinute: z
      .number()
      .positive()
      .optional()
      .describe(messages.requestsPerMinute.en)
      .meta({ zh: messages.requestsPerMinute.zh }),
    tokensPerMinute: z
      .number()
      .positive()
      .optional()
      .describe(messages.tokensPerMinute.en)
      .meta({ zh: messages.tokensPerMinute.zh }),
  }),
  async run({ action, target, file, name, ...key }, context) {
    const { addKey, readKeys, revokeKeys } = await import("../../serve/api-keys.ts");
    if (action === "add") {
      if (name === undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.keysNeedName));
      const added = await addKey(file, { name, ...key }, context.now());
      if (context.json) return printJson(context, { id: added.key.id, name, key: added.secret });
      note(context, say(context, messages.keyAdded, { name, id: added.key.id }));
      print(context, added.secret);
    } else if (action === "revoke") {
      if (target === undefined) throw new ConfigError("CPM_CLI_USAGE", say(context, messages.keysNeedTarget));
      const revoked = await revokeKeys(file, target, context.now());
      if (context.json) return printJson(context, { revoked: revoked.map(({ id }) => id) });
      print(context, say(context, messages.keysRevoked, { count: revoked.length }));
    } else {
      const keys = await readKeys(file);
      if (context.json) return printJson(context, { keys: keys.map(({ sha256: _, ...shown }) => shown) });
      list(keys, context);
    }
  },
});

function list(
  keys: Awaited<ReturnType<typeof import("../../serve/api-keys.ts")["readKeys"]>>,
  context: CommandContext,
): void {
  const limit = (value: number | undefined) => (value === undefined ? "∞" : formatInteger(value));
  const rows = keys.map(({ id, name, scopes: allowed, requestsPerMinute, tokensPerMinute, created, revoked }) => [
    id,
    name,
    allowed.join(", "),
    `${limit(requestsPerMinute)} / ${limit(tokensPerMinute)}`,
    created.slice(0, 10),
    say(context, revoked === undefined ? messages.keyGood : messages.keyRevoked),
  ]);
  const { columnId, columnName, columnScopes, columnLimits, columnCreated, columnState } = messages;
  const columns = [columnId, columnName, columnScopes, columnLimits, columnCreated, columnState];
  print(
    context,
    renderTable(
      columns.map((column) => ({ title: say(context, column) })),
      rows,
    ),
  );
}
