/**
 * The sign of life in a stream of events, for the server and its pages: without it a connection that has died in silence (a phone
 * in another network, a lost address) looks like a run in which nothing happens.
 */

/** Its name as a message; no run can be called so. */
export const beatEvent = "~beat";
export const beatMs = 15_000;
/** A page takes a connection for dead after this much silence, and comes back from where it is. */
export const silenceMs = 40_000;
