// Sets the view and the appearance before the first paint: a classic script blocks rendering, a module does not.

{
  const root = document.documentElement;
  const given = new URLSearchParams(location.search);
  root.dataset.view = given.get("view") === "overlay" ? "overlay" : "page";
  root.toggleAttribute("data-reads", given.has("read")); // the page of a reader
  try {
    for (const name of ["font", "theme", "contrast"]) {
      const value = localStorage.getItem(`speechbridge.${name}`);
      if (value && root.dataset.view === "page") root.dataset[name] = value;
    }
    root.style.setProperty("--size", localStorage.getItem("speechbridge.size") ?? "1");
  } catch {
    // Storage is blocked: the appearance is the default one.
  }
}
