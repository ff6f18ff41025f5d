// Transcripts as files, and on the clipboard.

import { toJson, toSrt, toText, toVtt } from "./captions.mjs";

const FORMATS = {
  txt: [toText, "text/plain"],
  srt: [toSrt, "application/x-subrip"],
  vtt: [toVtt, "text/vtt"],
  json: [toJson, "application/json"],
};

/** Save finals as a file in one of the formats. */
export function download(title, format, finals) {
  const [write, type] = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(finals)], { type: `${type};charset=utf-8` }));
  link.download = `${fileName(title)}.${format}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the browser has started to read it by then
}

/** Copy finals as plain text. Rejects if the browser does not allow it. */
export function copy(finals) {
  return navigator.clipboard.writeText(toText(finals));
}

/** A title without the characters that file systems forbid. */
function fileName(title) {
  const name = title
    .replace(/[\x00-\x1f"*/:<>?\\|]+/gu, " ")
    .trim()
    .replace(/^\.+/u, "")
    .slice(0, 80);
  return name || "captions";
}
