/** `cpm log`: a Markdown file for each day of a run. */
import { z } from "zod";
import { ConfigError } from "../../util/error.ts";
import { defineCommand } from "../command.ts";
import { print, printJson, say } from "../context.ts";
import { logMessages as messages } from "../messages/log.ts";

export default defineCommand({
  name: "log",
  summary: messages.summary,
  description: messages.description,
  json: true,
  examples: [{ line: 'log runs/zh --recorder 小李 --comment "损失稳步下降。"', ...messages.example }],
  schema: z.object({
    run: z.string().describe(messages.run.en).meta({ zh: messages.run.zh, positional: true, placeholder: "RUN" }),
    recorder: z.string().max(200).default("cpm-live").describe(messages.recorder.en).meta({ zh: messages.recorder.zh }),
    day: z.iso.date().optional().describe(messages.day.en).meta({ zh: messages.day.zh }),
    comment: z.string().max(20_000).optional().describe(messages.comment.en).meta({ zh: messages.comment.zh }),
    poll: z.string().max(20_000).optional().describe(messages.poll.en).meta({ zh: messages.poll.zh }),
    dayEnds: z.string().default("16:00+08:00").describe(messages.dayEnds.en).meta({ zh: messages.dayEnds.zh }),
  }),
  async run({ run: folder, recorder, day, comment, poll, dayEnds }, context) {
    const [{ createDailyLog, writeDailyLogs }, { parseDayRule }, { readEvents, readRun }] = await Promise.all([
      import("../../live/daily-log.ts"),
      import("../../live/day.ts"),
      import("../../live/run-folder.ts"),
    ]);
    const rule = parseDayRule(dayEnds);
    const { name, target } = readRun(folder);
    const log = createDailyLog({ rule, targetSteps: target.steps });
    for await (const { event } of readEvents(folder)) {
      context.signal.throwIfAborted();
      log.add(event);
    }
    const days = log.days();
    const chosen = day ?? days.at(-1)?.day;
    if (chosen === undefined || !days.some((each) => each.day === chosen)) {
      throw new ConfigError("CPM_LOG_DAY", say(context, messages.noDay), { where: "day", got: chosen });
    }
    const parts = { ...(comment !== undefined && { comment }), ...(poll !== undefined && { poll }) };
    const changes = { day: chosen, parts, language: context.locale };
    const written = await writeDailyLogs(folder, days, { name, recorder, rule }, changes);
    if (context.json) printJson(context, { written, days });
    else if (written.length === 0) print(context, say(context, messages.nothing));
    else {
      const names = [...new Set(written.map((path) => path.split(/[\\/]/).at(-1)!.slice(0, 10)))];
      print(
        context,
        say(context, messages.written, {
          count: written.length,
          days: names.length > 6 ? `${names[0]} … ${names.at(-1)}` : names.join(", "),
        }),
      );
    }
  },
});
