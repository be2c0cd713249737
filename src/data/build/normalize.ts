/** Text made uniform before it is judged, compared and tokenised. Each step can be switched off. */
import { z } from "zod";

export const normalizeSchema = z.strictObject({
  /** Unicode's composed form (NFC): one spelling for each character. */
  nfc: z.boolean().default(true),
  /** Control and format characters go, line ends become `\n`, other spaces become one of U+0020 and U+3000. */
  controls: z.boolean().default(true),
  /** `half`: full-width letters, digits and ASCII marks become ASCII; `full`: ASCII `,.!?:;` between Han become full-width. */
  width: z.enum(["keep", "half", "full"]).default("keep"),
});
export type NormalizeOptions = z.output<typeof normalizeSchema>;

/** Control and format characters; line ends and what an emoji or an Indic script needs (U+200C, U+200D) stay. */
const invisible = /(?![\n\u200C\u200D])[\p{Cc}\p{Cf}]/gu;
const wideMarks: Readonly<Record<string, string>> = {
  ",": "，",
  ".": "。",
  "!": "！",
  "?": "？",
  ":": "：",
  ";": "；",
};

function withoutControls(text: string): string {
  return text
    .replace(/\r\n?|\u0085|\u2028|\u2029/g, "\n")
    .replace(/[\t\u00A0\u1680\u2000-\u200A\u202F\u205F]/g, " ")
    .replace(invisible, "");
}

let changing: Uint8Array | undefined;

/** Whether there may be something for `withoutControls` to do: most texts have nothing, and a look is far quicker. */
function hasControls(text: string): boolean {
  changing ??= Uint8Array.from({ length: 0x10000 }, (_, unit) => {
    const isHalf = (unit & 0xf800) === 0xd800; // of a character that the table does not have
    const character = String.fromCharCode(unit);
    return isHalf || withoutControls(character) !== character ? 1 : 0;
  });
  for (let i = 0; i < text.length; i++) if (changing[text.charCodeAt(i)] === 1) return true;
  return false;
}

export function normalizeText(text: string, { nfc, controls, width }: NormalizeOptions): string {
  let result = controls && hasControls(text) ? withoutControls(text) : text;
  if (nfc) result = result.normalize("NFC");
  if (width === "half") {
    result = result.replace(/[\uFF10-\uFF19\uFF21-\uFF3A\uFF41-\uFF5A\uFF0D\uFF0F\uFF05\uFF0B]/g, (character) =>
      String.fromCharCode(character.charCodeAt(0) - 0xfee0),
    );
  } else if (width === "full") {
    result = result.replace(/(?<=\p{sc=Han})[,.!?:;](?=\p{sc=Han}|\s|$)/gu, (mark) => wideMarks[mark] ?? mark);
  }
  return result.trim();
}
