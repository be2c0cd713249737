/**
 * The files for containers and clusters have the fields that their specifications name, and say what the server
 * understands: ports, paths, flags and times fit. Whether a cluster takes them is not tested: there is none here.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { parseRequest } from "../src/cli/parse-options.ts";
import { parseDuration } from "../src/cli/quantity.ts";
import serve from "../src/cli/verbs/serve.ts";
import { composeFile, kubernetesObject } from "./support/manifest-schemas.ts";

const deploy = new URL("../deploy/", import.meta.url);
const files = readdirSync(deploy, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".yaml"));

// biome-ignore lint/suspicious/noExplicitAny: the files of others' formats
function documents(path: string): any[] {
  return parseAllDocuments(readFileSync(new URL(path, deploy), "utf8"), { uniqueKeys: true }).map((document) => {
    assert.deepEqual([...document.errors, ...document.warnings], [], path);
    return document.toJS();
  });
}

/** The options that the server makes of its words. */
function optionsOf(words: readonly string[]) {
  const request = parseRequest(serve, words, "en", 80);
  assert.equal(request.kind, "run");
  return (request as { options: { port: number; host: string; drain: number; keys?: string; models: string[] } })
    .options;
}

test("every file has the fields of its specification, and no others", () => {
  assert.ok(files.length >= 3);
  for (const path of files) {
    for (const document of documents(path))
      (path.startsWith("kubernetes") ? kubernetesObject : composeFile).parse(document);
  }
  const [deployment] = documents("kubernetes/deployment.yaml");
  const spoiled = structuredClone(deployment);
  spoiled.spec.template.spec.containers[0].readinesProbe = spoiled.spec.template.spec.containers[0].readinessProbe;
  assert.equal(kubernetesObject.safeParse(spoiled).success, false, "a misspelt field is found");
});

test("the deployment: flags, probes, and more time to end than the server takes", () => {
  const [{ spec }] = documents("kubernetes/deployment.yaml");
  const pod = spec.template.spec;
  const [container] = pod.containers;
  const options = optionsOf(container.args);
  assert.equal(container.ports[0].containerPort, options.port);
  assert.equal(options.host, "0.0.0.0");
  for (const [probe, path] of [
    ["startupProbe", "/health/ready"],
    ["readinessProbe", "/health/ready"],
    ["livenessProbe", "/health/live"],
  ] as const) {
    assert.deepEqual(container[probe].httpGet, { path, port: container.ports[0].name });
  }
  const pause = container.lifecycle.preStop.sleep.seconds;
  assert.ok(pod.terminationGracePeriodSeconds > pause + options.drain / 1000);
  const mounted = container.volumeMounts.map(({ name }: { name: string }) => name);
  assert.deepEqual(pod.volumes.map(({ name }: { name: string }) => name).sort(), mounted.sort());
  for (const { name } of container.volumeMounts) assert.ok(mounted.includes(name));
  const [service, budget, scaler] = documents("kubernetes/service.yaml");
  assert.deepEqual(service.spec.selector, spec.template.metadata.labels);
  assert.deepEqual(budget.spec.selector.matchLabels, spec.selector.matchLabels);
  assert.equal(scaler.spec.scaleTargetRef.name, "cpm-serve");
});

test("compose and the Dockerfile: the same server, stopped with patience", () => {
  const [{ services }] = documents("compose.yaml");
  const options = optionsOf(services.serve.command);
  assert.deepEqual(services.serve.ports, [`${options.port}:${options.port}`]);
  assert.ok(parseDuration(services.serve.stop_grace_period)! > options.drain);
  const docker = readFileSync(new URL("Dockerfile", deploy), "utf8");
  // What is kept between starts is on a volume: the rest of the file system cannot be written.
  const cache = /CPM_LIVE_CACHE=(\S+)/.exec(docker)![1];
  assert.ok(services.serve.volumes.includes(`cache:${cache}`));
  const [{ spec }] = documents("kubernetes/deployment.yaml");
  const mounts = spec.template.spec.containers[0].volumeMounts as { mountPath: string; readOnly?: boolean }[];
  assert.ok(mounts.some(({ mountPath, readOnly }) => mountPath === cache && !readOnly));
  const words = JSON.parse(/^CMD (\[.*\])$/m.exec(docker)![1]!) as string[];
  assert.deepEqual(optionsOf(words).models, ["model=/model"]);
  assert.match(docker, new RegExp(`^EXPOSE ${options.port}$`, "m"));
  assert.deepEqual(JSON.parse(/^ENTRYPOINT (\[.*\])$/m.exec(docker)![1]!), ["node", "bin/cpm.js", "serve"]);
});
