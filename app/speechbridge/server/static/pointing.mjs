// Finds the word at a point of the page.

import { places } from "./captions.mjs";

const NEAR = 4; // px around a word that still belong to it

/** The word at a point: `{ paragraph, turn, place, box }`; null if there is none. `turnOf(paragraph)` is its turn. */
export function wordAt(turnOf, x, y) {
  const { node, offset } = caretAt(x, y);
  const paragraph = node?.parentElement;
  const turn = turnOf(paragraph);
  const place = turn && places(turn).find(({ from, to }) => from <= offset && offset <= to);
  if (!place) return null;
  const box = boxOf(paragraph, place);
  const isOn = x >= box.left - NEAR && x <= box.right + NEAR && y >= box.top && y <= box.bottom;
  return isOn ? { paragraph, turn, place, box } : null;
}

/** The box around a word of a paragraph. */
export function boxOf(paragraph, { from, to }) {
  const range = document.createRange();
  range.setStart(paragraph.firstChild, from);
  range.setEnd(paragraph.firstChild, to);
  return range.getBoundingClientRect();
}

function caretAt(x, y) {
  const caret = document.caretPositionFromPoint?.(x, y);
  if (caret) return { node: caret.offsetNode, offset: caret.offset };
  const range = document.caretRangeFromPoint?.(x, y); // Safari
  return { node: range?.startContainer, offset: range?.startOffset };
}
