/** Changes to the page's elements. Each function writes only what differs, so that nothing is laid out in vain. */

/** The element that matches; throws if index.html has none. */
export function find<E extends Element = HTMLElement>(root: ParentNode, selector: string): E {
  const element = root.querySelector<E>(selector);
  if (!element) throw new Error(`index.html has no element "${selector}"`);
  return element;
}

/** A new element from a template in index.html. */
export function clone(templateId: string): HTMLElement {
  const template = find<HTMLTemplateElement>(document, `template#${templateId}`);
  return template.content.firstElementChild!.cloneNode(true) as HTMLElement;
}

/** All data from outside gets on the page through this function: as text, never as HTML. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute; `null` removes it. */
export function setAttribute(element: Element, name: string, value: string | null): void {
  if (element.getAttribute(name) === value) return;
  if (value === null) element.removeAttribute(name);
  else element.setAttribute(name, value);
}

/** Set a bar. Screen readers get its name and value; the stylesheet draws it from --percent. */
export function setBar(bar: HTMLElement, percent: number, label: string): void {
  setAttribute(bar, "aria-label", label);
  setAttribute(bar, "aria-valuenow", String(Math.floor(percent)));
  const fill = bar.firstElementChild as HTMLElement;
  const value = String(percent);
  if (fill.style.getPropertyValue("--percent") !== value) fill.style.setProperty("--percent", value);
}

/** Make these the children, in this order. Moves as few as possible: a moved element loses its animation and focus. */
export function place(parent: Element, children: readonly Element[]): void {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

/** Give the focus back to `focused`. An element loses it when one of its parents moves. */
export function keepFocus(focused: Element | null): void {
  const isLost = focused !== document.activeElement && focused?.isConnected;
  if (isLost && focused instanceof HTMLElement) focused.focus({ preventScroll: true });
}

/** Hide or show. If the hidden element had the focus, `heir` gets it, so that keyboard users keep their place. */
export function setHidden(element: HTMLElement, isHidden: boolean, heir?: HTMLElement): void {
  if (element.hidden === isHidden) return;
  const hadFocus = isHidden && element.contains(document.activeElement);
  element.hidden = isHidden;
  if (hadFocus) heir?.focus({ preventScroll: true });
}
