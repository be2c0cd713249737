/**
 * Which of the signatures kept so far are like a new one: MinHash with banding (Leskovec, Rajaraman and Ullman 2014, 3.4).
 * A signature is cut into bands of four places; only texts that share a band are compared.
 *
 * All in flat arrays, some 450 bytes a signature: a table of 32-bit heads by band, each the beginning of a chain of signatures
 * that have this band. What a slot stands for is looked up in the signature of its head, so no keys are kept.
 */
import { signatureLength } from "./minhash.ts";

export interface LikenessIndex {
  /** Whether at least `similarity` of the places are those of a signature that was kept. */
  resembles(signature: Uint16Array): boolean;
  keep(signature: Uint16Array): void;
}

const placesPerBand = 4;
const bandCount = signatureLength / placesPerBand;
/** Texts of one form share bands in their thousands; without a bound, comparing them takes the square of their number. */
const chainLimit = 64;

export function createLikenessIndex(similarity: number): LikenessIndex {
  const needed = Math.ceil(similarity * signatureLength);
  let capacity = 1024;
  let kept = 0;
  /** One after the other; behind the last one kept, the one that is looked at. */
  let signatures = new Uint16Array(capacity * signatureLength);
  /** Of each band of each signature: the entry behind it in its chain, plus 1; 0 ends it. */
  let next = new Uint32Array(capacity * bandCount);
  /** The number of the look at which a signature was last compared. */
  let compared = new Uint32Array(capacity);
  let looks = 0;
  let heads = new Uint32Array(4 * capacity * bandCount);
  let chains = 0;

  /** The slot of a band of the signature at `place`: that of its chain, or a free one. */
  function slotOf(table: Uint32Array, place: number, band: number): number {
    const at = place * signatureLength + band * placesPerBand;
    const [a, b, c, d] = [signatures[at]!, signatures[at + 1]!, signatures[at + 2]!, signatures[at + 3]!];
    let mixed = Math.imul((a | (b << 16)) ^ Math.imul(c | (d << 16), 0x9e3779b1) ^ band, 0x85ebca6b);
    mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
    const mask = table.length - 1;
    for (let slot = (mixed ^ (mixed >>> 16)) & mask; ; slot = (slot + 1) & mask) {
      const head = table[slot]!;
      if (head === 0) return slot;
      const other = (head - 1) * placesPerBand;
      if (
        (head - 1) % bandCount === band &&
        signatures[other] === a &&
        signatures[other + 1] === b &&
        signatures[other + 2] === c &&
        signatures[other + 3] === d
      )
        return slot;
    }
  }

  function isLike(place: number): boolean {
    const [one, two] = [place * signatureLength, kept * signatureLength];
    let equal = 0;
    for (let i = 0; i < signatureLength; i++) if (signatures[one + i] === signatures[two + i]) equal++;
    return equal >= needed;
  }

  function growSignatures(): void {
    capacity *= 2;
    signatures = copied(signatures, new Uint16Array(capacity * signatureLength));
    next = copied(next, new Uint32Array(capacity * bandCount));
    compared = copied(compared, new Uint32Array(capacity));
  }

  function growHeads(): void {
    const grown = new Uint32Array(2 * heads.length);
    for (const head of heads) {
      if (head !== 0) grown[slotOf(grown, Math.floor((head - 1) / bandCount), (head - 1) % bandCount)] = head;
    }
    heads = grown;
  }

  return {
    resembles(signature) {
      signatures.set(signature, kept * signatureLength);
      looks++;
      for (let band = 0; band < bandCount; band++) {
        for (let entry = heads[slotOf(heads, kept, band)]!; entry !== 0; entry = next[entry - 1]!) {
          const place = Math.floor((entry - 1) / bandCount);
          if (compared[place] === looks) continue;
          compared[place] = looks;
          if (isLike(place)) return true;
        }
      }
      return false;
    },
    keep(signature) {
      signatures.set(signature, kept * signatureLength);
      for (let band = 0; band < bandCount; band++) {
        const slot = slotOf(heads, kept, band);
        let length = 0;
        for (let entry = heads[slot]!; entry !== 0; entry = next[entry - 1]!) length++;
        if (length >= chainLimit) continue;
        if (length === 0) chains++;
        const entry = kept * bandCount + band;
        next[entry] = heads[slot]!;
        heads[slot] = entry + 1;
      }
      kept++;
      if (kept === capacity) growSignatures();
      if (2 * (chains + bandCount) > heads.length) growHeads();
    },
  };
}

function copied<A extends Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>>(from: A, to: A): A {
  to.set(from);
  return to;
}
