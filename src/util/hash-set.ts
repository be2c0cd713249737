/**
 * A set of hashes in flat memory: open addressing over doubles, 16 to 32 bytes an entry. A JavaScript `Set` of numbers of
 * 53 bits takes several times as much and ends at 16.7 million entries.
 */

export interface HashSet {
  readonly size: number;
  /** Adds a whole number from 0 to 2^53 − 1; false where it was there already. */
  add(hash: number): boolean;
  has(hash: number): boolean;
}

export function createHashSet(expected = 1024): HashSet {
  let capacity = 1024;
  while (capacity < 2 * expected) capacity *= 2;
  /** Value + 1; 0 is empty. */
  let slots = new Float64Array(capacity);
  let size = 0;

  function slotOf(table: Float64Array, hash: number): number {
    const mask = table.length - 1;
    // All bits take part in the slot (MurmurHash3's finisher): numbers of one residue class would fall together otherwise.
    let mixed = (hash | 0) ^ Math.imul((hash / 2 ** 32) | 0, 0x9e3779b1);
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    let slot = (mixed ^ (mixed >>> 16)) & mask;
    while (table[slot] !== 0 && table[slot] !== hash + 1) slot = (slot + 1) & mask;
    return slot;
  }

  function grow(): void {
    const old = slots;
    slots = new Float64Array(2 * old.length);
    for (const value of old) if (value !== 0) slots[slotOf(slots, value - 1)] = value;
  }

  return {
    get size() {
      return size;
    },
    has: (hash) => slots[slotOf(slots, hash)] !== 0,
    add(hash) {
      const slot = slotOf(slots, hash);
      if (slots[slot] !== 0) return false;
      slots[slot] = hash + 1;
      size++;
      if (2 * size > slots.length) grow();
      return true;
    },
  };
}
