/** For the test of a run's lock: says that it is ready, then opens the run and keeps it until the parent lets go. */
import { reopenRun } from "../../src/live/run-folder.ts";

process.once("message", async () => {
  try {
    const writer = await reopenRun(process.argv[2]!, Date.now);
    process.send!("taken");
    process.once("disconnect", () => writer.close());
  } catch (error) {
    process.send!((error as { code?: string }).code);
  }
});
process.send!("ready");
