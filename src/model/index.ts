/**
 * CPM-Ant: configuration and presets, the table of parameters, batches with their attention and positions, the model as
 * pure functions over parameter trees, and its arithmetic in FLOPs.
 *
 * @module
 */
export * from "./batch.ts";
export * from "./config.ts";
export * from "./cpm-ant.ts";
export * from "./flops.ts";
export * from "./graft.ts";
export * from "./parameters.ts";
export * from "./position-buckets.ts";
export * from "./presets.ts";
