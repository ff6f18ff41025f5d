// Small values that survive a reload (sessionStorage) or the next visit (localStorage).

/** A remembered value, or null: there is none, or the browser blocks storage. */
export function remembered(name, storage = "localStorage") {
  try {
    return globalThis[storage].getItem(`speechbridge.${name}`);
  } catch {
    return null;
  }
}

/** Remember a value; null forgets it. If the browser blocks storage, the value lasts for this visit. */
export function remember(name, value, storage = "localStorage") {
  try {
    if (value === null) globalThis[storage].removeItem(`speechbridge.${name}`);
    else globalThis[storage].setItem(`speechbridge.${name}`, value);
  } catch {
    // Storage is blocked.
  }
}
