/**
 * Daily logs as elements: headings, lists, tables, quotes, code, emphasis and links to http(s). No HTML passes: text stays
 * text.
 */
import type { ComponentChildren } from "preact";

export function Markdown({ text }: { readonly text: string }) {
  return <div class="markdown">{blocks(text.slice(0, 200_000).replaceAll("\r\n", "\n"))}</div>;
}

function blocks(text: string): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  const lines = text.replace(/<!--[\s\S]*?-->/g, "").split("\n");
  for (let i = 0; i < lines.length; ) {
    const line = lines[i]!;
    const heading = /^(#{1,4})\s+(.*)$/.exec(line);
    if (line.trim() === "") {
      i++;
    } else if (heading) {
      const Tag = (["h2", "h3", "h4", "h5"] as const)[heading[1]!.length - 1]!;
      out.push(<Tag>{inline(heading[2]!)}</Tag>);
      i++;
    } else if (/^\|/.test(line)) {
      const rows: string[][] = [];
      for (; i < lines.length && /^\|/.test(lines[i]!); i++) {
        const cells = lines[i]!.replace(/^\||\|\s*$/g, "")
          .split("|")
          .map((cell) => cell.trim());
        if (!cells.every((cell) => /^:?-+:?$/.test(cell))) rows.push(cells);
      }
      const [head, ...body] = rows;
      out.push(
        <div class="scroll">
          <table>
            <thead>
              <tr>
                {head?.map((cell) => (
                  <th>{inline(cell)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {body.map((row) => (
                <tr>
                  {row.map((cell) => (
                    <td>{inline(cell)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>,
      );
    } else if (/^\s*[-*]\s+/.test(line)) {
      const items: string[] = [];
      for (; i < lines.length && /^\s*[-*]\s+/.test(lines[i]!); i++) items.push(lines[i]!.replace(/^\s*[-*]\s+/, ""));
      out.push(
        <ul>
          {items.map((item) => (
            <li>{inline(item)}</li>
          ))}
        </ul>,
      );
    } else if (/^>/.test(line)) {
      const quoted: string[] = [];
      for (; i < lines.length && /^>/.test(lines[i]!); i++) quoted.push(lines[i]!.replace(/^>\s?/, ""));
      out.push(<blockquote>{blocks(quoted.join("\n"))}</blockquote>);
    } else if (/^```/.test(line)) {
      const code: string[] = [];
      for (i++; i < lines.length && !/^```/.test(lines[i]!); i++) code.push(lines[i]!);
      i++;
      out.push(<pre>{code.join("\n")}</pre>);
    } else {
      const paragraph: string[] = [];
      for (; i < lines.length && lines[i]!.trim() !== "" && !/^(#{1,4}\s|\||\s*[-*]\s|>|```)/.test(lines[i]!); i++) {
        paragraph.push(lines[i]!);
      }
      if (paragraph.length === 0) paragraph.push(lines[i++]!);
      out.push(<p>{inline(paragraph.join("\n"))}</p>);
    }
  }
  return out;
}

function inline(text: string): ComponentChildren[] {
  const out: ComponentChildren[] = [];
  const pattern = /\*\*([^*]+)\*\*|`([^`]+)`|\[([^\]]+)\]\((https?:\/\/[^\s)]+)\)/g;
  let last = 0;
  for (const match of text.matchAll(pattern)) {
    out.push(text.slice(last, match.index));
    const [whole, bold, code, label, href] = match;
    if (bold !== undefined) out.push(<strong>{bold}</strong>);
    else if (code !== undefined) out.push(<code>{code}</code>);
    else
      out.push(
        <a href={href ?? ""} rel="noreferrer noopener">
          {label}
        </a>,
      );
    last = match.index + whole.length;
  }
  out.push(text.slice(last));
  return out;
}
