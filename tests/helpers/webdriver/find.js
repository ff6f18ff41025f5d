// Finds elements like Playwright's locators, from the steps of a locator.
(() => {
  const ROLES = {
    alert: "[role=alert]",
    button: "button, summary, [role=button]",
    dialog: "dialog[open]",
    heading: "h1, h2, h3",
    log: "[role=log]",
    option: "option",
    status: "[role=status]",
    textbox: "input:not([type]), input[type=text], textarea, [role=textbox]",
    tooltip: "[role=tooltip]",
  };
  const normal = (text) => (text ?? "").replace(/\s+/g, " ").trim();
  const isVisible = (it) =>
    it.tagName === "OPTION" ||
    (it.checkVisibility({ visibilityProperty: true }) && it.getBoundingClientRect().width > 0);
  const matches = (text, wanted, isExact) =>
    isExact ? normal(text) === wanted : normal(text).toLowerCase().includes(wanted.toLowerCase());

  function spoken(it) {
    const copy = it.cloneNode(true);
    for (const hidden of copy.querySelectorAll("[aria-hidden=true]")) hidden.remove();
    return copy.textContent;
  }

  function nameOf(it) {
    const labelled = it.getAttribute("aria-labelledby");
    if (labelled) return document.getElementById(labelled)?.textContent;
    if (it.getAttribute("aria-label")) return it.getAttribute("aria-label");
    if (it.labels?.length) return [...it.labels].map(spoken).join(" ");
    return normal(spoken(it)) || it.title || it.placeholder;
  }

  const STEPS = {
    css: (roots, { value }) => roots.flatMap((root) => [...root.querySelectorAll(value)]),
    role: (roots, { value, name, isExact }) =>
      STEPS.css(roots, { value: ROLES[value] })
        .filter(isVisible)
        .filter((it) => name === null || matches(nameOf(it), name, isExact)),
    label: (roots, { value, isExact }) =>
      STEPS.css(roots, { value: "input, select, textarea, [aria-label]" }).filter((it) =>
        matches(nameOf(it), value, isExact),
      ),
    text(roots, { value, isExact }) {
      const found = STEPS.css(roots, { value: "body *, *" }).filter(
        (it) => !it.matches("script, style, template") && matches(it.textContent, value, isExact),
      );
      return [...new Set(found)].filter((it) => !found.some((other) => other !== it && it.contains(other)));
    },
    nth: (roots, { value }) => [roots.at(value)].filter(Boolean),
  };

  const find = (steps) => steps.reduce((roots, step) => STEPS[step.by](roots, step), [document]);

  /** The properties of a locator's first element that tests check. */
  function facts(steps, attribute, property) {
    const found = find(steps);
    const [it] = found;
    if (!it) return { count: 0, isVisible: false };
    return {
      count: found.length,
      isVisible: isVisible(it),
      text: normal(it.textContent),
      value: it.value,
      isFocused: document.activeElement === it,
      isDisabled: it.disabled === true,
      isChecked: it.checked === true,
      attribute: attribute && it.getAttribute(attribute),
      css: property && getComputedStyle(it).getPropertyValue(property),
    };
  }

  /** The box of an element, scrolled into view; null if it is missing or not visible. */
  function middle(steps) {
    const [it] = find(steps);
    if (!it || !isVisible(it)) return null;
    it.scrollIntoView({ block: "nearest", inline: "nearest", behavior: "instant" });
    const { left, top, width, height } = it.getBoundingClientRect();
    return { left, top, width, height, isDisabled: it.disabled === true };
  }

  return { find, facts, middle };
})()
