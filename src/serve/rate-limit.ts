/**
 * Rate limits as token buckets: a bucket holds one minute's allowance and fills all the time. What a request costs may be
 * known only afterwards, so a bucket may go below zero; the next request then waits until it is above.
 */

export interface RateLimiter {
  /** Takes from a bucket; returns the seconds until it would be possible, 0 where it was. */
  take(bucket: string, perMinute: number, amount: number): number;
  /** Takes what has been used already. */
  charge(bucket: string, perMinute: number, amount: number): void;
}

interface Bucket {
  level: number;
  atMs: number;
}

const maxBuckets = 10_000;

export function createRateLimiter(now: () => number): RateLimiter {
  const buckets = new Map<string, Bucket>();

  function fill(name: string, perMinute: number): Bucket {
    const nowMs = now();
    const bucket = buckets.get(name) ?? { level: perMinute, atMs: nowMs };
    bucket.level = Math.min(perMinute, bucket.level + ((nowMs - bucket.atMs) / 60_000) * perMinute);
    bucket.atMs = nowMs;
    // The one that was used longest ago is forgotten first; by then it is full again.
    buckets.delete(name);
    buckets.set(name, bucket);
    if (buckets.size > maxBuckets) buckets.delete(buckets.keys().next().value!);
    return bucket;
  }

  return {
    take(name, perMinute, amount) {
      const bucket = fill(name, perMinute);
      // A request that is dearer than the whole allowance goes through when the bucket is full.
      const missing = Math.min(amount, perMinute) - bucket.level;
      if (missing > 1e-9) return (missing / perMinute) * 60;
      bucket.level -= amount;
      return 0;
    },
    charge(name, perMinute, amount) {
      fill(name, perMinute).level -= amount;
    },
  };
}
