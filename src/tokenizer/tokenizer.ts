/**
 * What every tokenizer of the kit can do. CPM-Ant's is `ant-tokenizer.ts`; the detokenizer works with any.
 */

/** What one id stands for. */
export type Piece =
  /** Text as it is. */
  | { readonly kind: "text"; readonly text: string }
  /** One byte of UTF-8; neighbours join to characters. */
  | { readonly kind: "byte"; readonly byte: number }
  /** A mark such as `<s>`, which is not part of the text. */
  | { readonly kind: "special"; readonly text: string };

export interface EncodeOptions {
  /**
   * What becomes of text that the vocabulary cannot spell: `drop` leaves it out, as the original's callers do; `keep`
   * puts the id of `<unk>` in its place. Both count it.
   *
   * @defaultValue "drop"
   */
  readonly unknown?: "drop" | "keep" | undefined;
}

export interface Encoding {
  readonly ids: Int32Array;
  /** How many `<unk>` there are, or would be: text that did not survive. */
  readonly unknownCount: number;
}

export interface DecodeOptions {
  /**
   * Whether specials are written literally, as the original does, or left out.
   *
   * @defaultValue "keep"
   */
  readonly specials?: "keep" | "drop" | undefined;
}

export interface Tokenizer {
  /** Rows of the embedding: ids are `0 … vocabSize − 1`. */
  readonly vocabSize: number;
  readonly padId: number;
  readonly unkId: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly newlineId: number;
  encode(text: string, options?: EncodeOptions): Encoding;
  /** Negative ids are skipped; others outside of the vocabulary are a DataError `CPM_TOKEN_ID`. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** What an id stands for. Throws DataError `CPM_TOKEN_ID` where there is no such id. */
  pieceOf(id: number): Piece;
  /** The id's text: of a byte its spelling, such as `<0xE4>`. Throws DataError `CPM_TOKEN_ID`. */
  tokenOf(id: number): string;
  idOf(token: string): number | undefined;
}
