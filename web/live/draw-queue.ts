/**
 * Drawing spread over frames: what wants to be drawn waits for its turn, and a frame takes only as much as fits its time.
 * A page with many charts stays quick to answer however many of them change at once.
 */

/** Drawing in one frame goes on until this much has passed. */
const budgetMs = 10;

const waiting = new Set<() => void>();
let frame = 0;

function work(): void {
  const start = performance.now();
  for (const draw of waiting) {
    waiting.delete(draw);
    draw();
    if (performance.now() - start >= budgetMs) break;
  }
  frame = waiting.size > 0 ? requestAnimationFrame(work) : 0;
}

/** Draws in this or one of the next frames, once however often it is asked for meanwhile; must be the same function. */
export function drawSoon(draw: () => void): void {
  waiting.add(draw);
  if (frame === 0) frame = requestAnimationFrame(work);
}

export function drawNever(draw: () => void): void {
  waiting.delete(draw);
}
