/**
 * What a Dockerfile would do, done in folders: stages with their copies and commands, and what the image runs in the end.
 * Only the instructions that ours has. `/` of a stage is a folder; commands run on this machine, so what must not run here
 * is for the caller to do otherwise.
 */
import { cpSync, lstatSync, mkdirSync, readlinkSync, symlinkSync } from "node:fs";
import { basename, join } from "node:path";

interface Instruction {
  readonly name: string;
  readonly text: string;
}

export interface DockerStage {
  readonly name: string | undefined;
  readonly image: string;
  readonly instructions: readonly Instruction[];
}

/** What an image says of how it is run. */
export interface DockerImage {
  readonly root: string;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly words: readonly string[];
  readonly healthcheck: readonly string[];
  readonly user: string | undefined;
}

/** Lines without comments, continued ones joined. Throws for instructions that are not known here. */
export function parseDockerfile(text: string): DockerStage[] {
  const known = new Set("FROM WORKDIR COPY RUN ENV USER EXPOSE VOLUME ENTRYPOINT CMD HEALTHCHECK".split(" "));
  const lines = text
    .split("\n")
    .filter((line) => !/^\s*(#|$)/.test(line))
    .join("\n")
    .replaceAll(/\\\n\s*/g, "")
    .split("\n");
  const stages: (DockerStage & { readonly instructions: Instruction[] })[] = [];
  for (const line of lines) {
    const [, name, rest] = /^([A-Z]+) (.+)$/.exec(line) ?? [];
    if (name === undefined || rest === undefined || !known.has(name)) throw new Error(`not an instruction: ${line}`);
    if (name === "FROM") {
      const [, image, stage] = /^(\S+)(?: AS (\w+))?$/.exec(rest)!;
      stages.push({ name: stage, image: image!, instructions: [] });
    } else {
      stages.at(-1)!.instructions.push({ name, text: rest });
    }
  }
  return stages;
}

export interface BuildPlace {
  /** Files that are sent to the build. */
  readonly context: string;
  /** Where the folders of the stages are made. */
  readonly folder: string;
  /** Runs one command of a RUN, split at `&&`. `root` is what stands for `/`. */
  run(command: string, place: { readonly root: string; readonly cwd: string }): Promise<void>;
}

/** Follows all stages; the last one is the image. */
export async function buildImage(stages: readonly DockerStage[], place: BuildPlace): Promise<DockerImage> {
  const roots = new Map<string, string>();
  let image: DockerImage | undefined;
  for (const [index, stage] of stages.entries()) {
    const root = join(place.folder, stage.name ?? `stage-${index}`);
    roots.set(stage.name ?? String(index), root);
    image = await buildStage(stage, root, roots, place);
  }
  return image!;
}

async function buildStage(
  stage: DockerStage,
  root: string,
  roots: ReadonlyMap<string, string>,
  { context, run }: BuildPlace,
): Promise<DockerImage> {
  let workdir = "/";
  let user: string | undefined;
  let [entrypoint, command, healthcheck]: string[][] = [[], [], []];
  const env: Record<string, string> = {};
  const at = (path: string) => join(root, path.startsWith("/") ? path : join(workdir, path));
  mkdirSync(root, { recursive: true });
  for (const { name, text } of stage.instructions) {
    if (name === "WORKDIR") {
      workdir = text;
      mkdirSync(at("."), { recursive: true });
    } else if (name === "COPY") {
      const [, from, rest] = /^(?:--from=(\w+) )?(.+)$/.exec(text)!;
      const paths = rest!.split(" ");
      const target = paths.pop()!;
      for (const path of paths) copy(join(from === undefined ? context : roots.get(from)!, path), at(target), target);
    } else if (name === "RUN") {
      for (const each of text.split(" && ")) await run(each, { root, cwd: at(".") });
    } else if (name === "ENV") {
      for (const pair of text.split(" ")) env[pair.slice(0, pair.indexOf("="))] = pair.slice(pair.indexOf("=") + 1);
    } else if (name === "ENTRYPOINT") entrypoint = JSON.parse(text);
    else if (name === "CMD") command = JSON.parse(text);
    else if (name === "HEALTHCHECK") healthcheck = JSON.parse(text.slice(text.indexOf("[")));
    else if (name === "USER") user = text;
  }
  return { root, workdir, env, words: [...entrypoint!, ...command!], healthcheck: healthcheck!, user };
}

/** As COPY does: a folder's content, or a file into a folder that ends in a slash. A link stays one. */
function copy(source: string, target: string, written: string): void {
  const info = lstatSync(source);
  if (info.isSymbolicLink()) {
    symlinkSync(readlinkSync(source), target);
    return;
  }
  const into = info.isFile() && /(^\.|\/)$/.test(written) ? join(target, basename(source)) : target;
  cpSync(source, into, { recursive: true, verbatimSymlinks: true });
}
