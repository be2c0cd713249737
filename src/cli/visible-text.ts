/**
 * Text from strangers that is shown: what would steer a terminal, hide or turn round what stands beside it is written
 * out, so that the reader sees that it is there and nothing happens.
 */

/** Control, format (bidirectional ones among them) and unassigned characters, separators of lines, lone surrogates. */
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu;

/** A line feed as ↵ (fonts have it), other control characters as their pictures (␛), all else of the kind as ⟨U+202E⟩. */
export function visibleText(text: string): string {
  return text.replaceAll(unsafe, (character) => {
    const codePoint = character.codePointAt(0)!;
    if (codePoint === 0x0a) return "↵";
    if (codePoint < 0x20) return String.fromCodePoint(0x2400 + codePoint);
    if (codePoint === 0x7f) return "␡";
    return `⟨U+${codePoint.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** Visible text for HTML, between tags and in attributes with quotes. */
export function htmlText(text: string): string {
  const escapes: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return visibleText(text).replaceAll(/[&<>"']/g, (character) => escapes[character]!);
}
