/** The names of the tasks, apart from what they do: a command's options need no more. */
export const taskNames = ["c3", "ccpm", "kdconv", "math23k", "headline", "lcsts", "sogou"] as const;
export type TaskName = (typeof taskNames)[number];
